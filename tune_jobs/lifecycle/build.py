"""Everything that runs a sweep but Ray: built from the sweep's folder, whether that is new or taken up again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Strategy
from search_spaces.inventory import inventory
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.execution.callback import TRIALS, Display, Recorder
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.monitor import MINUTE_S, Guard
from tune_jobs.execution.nodes import Machines, Still
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.execution.trainable import trial_config
from tune_jobs.lifecycle.resume import catch_up, refuse_another_study, replay, settle
from tune_jobs.lifecycle.warm_start import learn
from tune_jobs.reporting.progress import display_for
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.scheduling.early_stopping import Judge, judge_for
from tune_jobs.scheduling.limits import Gate
from tune_jobs.search.study import Asked, SweepStudy
from tune_jobs.state import journal
from tune_jobs.state.chronicle import Chronicle
from tune_jobs.state.events import Begun, Event, Opened
from tune_jobs.state.journal import Journal, read_journal
from tune_jobs.state.trials import Records, TrialRecord
from tune_jobs.storage.location import Bucket, Place, place_of
from tune_jobs.storage.segments import Segments
from tune_jobs.storage.sync import in_step, to_read

STUDY, EVENTS, BEST = "study.db", "tensorboard", "best"
FOLDER = "folder"
"""The study's attribute that says whose it is."""


@dataclass(frozen=True)
class Session:
    """One driver's work on a sweep. What runs trials asks ``searcher``, and tells ``scheduler`` and ``recorder``."""

    folder: Path
    settings: SweepSettings
    records: Records
    study: SweepStudy
    judge: Judge
    searcher: SweepSearcher
    scheduler: SweepScheduler
    recorder: Recorder
    guard: Guard
    display: Display


@contextmanager
def session(
    settings: SweepSettings,
    folder: Path,
    room: Room,
    *,
    stop_wanted: Callable[[], bool],
    machines: Machines | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Session]:
    """Take the sweep in ``folder`` up where its journal ends; raises InputError where its state cannot be read.

    ``machines`` are those of the cluster that ``room`` was made on, where it may change.
    """
    where = place_of(settings.storage, folder)
    events = read_journal(folder / journal.FILE)
    records, judge = Records(), judge_for(settings.early_stopping, budget=settings.budget)
    replay(events, records, judge, settings)
    with (
        Journal(folder / journal.FILE, Segments(where) if isinstance(where, Bucket) else None) as file,
        closing(EventLogs(folder / EVENTS, searched_names(settings))) as logs,
    ):
        study = open_study(settings, folder, events)
        chronicle = Chronicle(file, records, study, clock=clock)
        may_lag = isinstance(where, Bucket)
        left_over = catch_up(chronicle, study.trials(), source=str(folder / STUDY), may_lag=may_lag)
        guard = Guard(records, machines or Still(room), settings.stall_minutes * MINUTE_S, clock, room.workers)
        ready = _assemble(settings, folder, room, chronicle, judge, logs, guard, stop_wanted)
        with in_step(folder, where):
            chronicle.happened(Opened(at=clock(), gpus=room.gpus * room.workers))
            ready.searcher.take_up(settle(chronicle, ready.recorder, judge, where, settings), left_over)
            ready.recorder.drop_surplus()
            try:
                yield ready
            finally:
                guard.release()


def refuse_damaged(settings: SweepSettings, folder: Path) -> None:
    """Raise InputError where the sweep in ``folder`` cannot be taken up; changes nothing, and needs no cluster."""
    events = read_journal(folder / journal.FILE)
    records = Records()
    replay(events, records, judge_for(settings.early_stopping, budget=settings.budget), settings)
    if _has_own_trials(events):
        stored = open_study(settings, folder, events).trials()
        may_lag = isinstance(place_of(settings.storage, folder), Bucket)
        refuse_another_study(records, stored, source=str(folder / STUDY), may_lag=may_lag)


def open_study(settings: SweepSettings, folder: Path, events: Sequence[Event]) -> SweepStudy:
    """The study of a sweep: that of its journal, or a new one where it has begun no trial of its own."""
    make = partial(
        SweepStudy,
        study_url(settings, folder),
        name=settings.name,
        strategies=settings.strategies,
        seed=settings.seed,
        search=settings.search,
    )
    if _has_own_trials(events):
        return make(reopen=True)
    if not events and any(path.is_dir() for path in (folder / TRIALS).glob("[0-9]*")):
        raise InputError(f"{folder / journal.FILE}: is missing or empty, but the sweep has trials; put back a copy")
    if settings.search.storage is None:
        # A driver that died while it made the database has left something that only looks like one.
        for path in folder.glob(f"{STUDY}*"):
            path.unlink()
        study = make()
    else:
        study = _made_or_found(make, place_of(settings.storage, folder))
    study.study.set_user_attr(FOLDER, str(place_of(settings.storage, folder)))
    if settings.warm_start is not None:
        past = to_read(settings.warm_start)
        other = load_settings(past / SETTINGS)
        learn(study, settings.warm_start, other, url=study_url(other, past))
    return study


def _has_own_trials(events: Sequence[Event]) -> bool:
    return any(isinstance(event, Begun) and not event.source for event in events)


def study_url(settings: SweepSettings, folder: Path) -> str:
    """The database of the study of the sweep in ``folder``."""
    return settings.search.storage or f"sqlite:///{folder / STUDY}"


def _made_or_found(make: Callable[..., SweepStudy], where: Place) -> SweepStudy:
    """A new study, or the one that a driver of this sweep made before it died; raises InputError for another's."""
    try:
        return make()
    except InputError:
        study = make(reopen=True)
        owner = study.study.user_attrs.get(FOLDER)
        # Of a sweep whose journal has no trial yet, the study can hold suggestions, but no end of a trial.
        ended = any(trial.state.is_finished() for trial in study.trials())
        if ended or (owner != str(where) and (owner is not None or study.trials())):
            raise
        return study


def _assemble(
    settings: SweepSettings,
    folder: Path,
    room: Room,
    chronicle: Chronicle,
    judge: Judge,
    logs: EventLogs,
    guard: Guard,
    stop_wanted: Callable[[], bool],
) -> Session:
    records, gate = chronicle.records, Gate(settings.limits, chronicle.records, chronicle.clock)
    display = display_for(records, num_trials=settings.trials, budget=settings.budget)
    scheduler = SweepScheduler(judge, gate, failing=guard.locate)

    def begin(asked: Asked) -> TrialRecord:
        experiment = experiment_of(settings, asked.strategy)
        at, number, origin = chronicle.clock(), asked.number, asked.origin
        return recorder.begin(Begun(at=at, trial=number, params=asked.params, experiment=experiment, origin=origin))

    def config(record: TrialRecord) -> dict[str, Any]:
        guard.asked_for(record.number)
        every_s = settings.checkpoint_every_s
        return trial_config(record, place_of(settings.storage, folder), room=room, checkpoint_every_s=every_s)

    searcher = SweepSearcher(
        chronicle.study,
        records,
        trials=settings.trials,
        gate=gate,
        begin=begin,
        config=config,
        at_a_time=guard.at_a_time,
        waits=lambda: recorder.on_step_end(),
    )
    recorder = Recorder(
        folder,
        settings,
        chronicle=chronicle,
        searcher=searcher,
        scheduler=scheduler,
        guard=guard,
        logs=logs,
        display=display,
        stop_wanted=stop_wanted,
    )
    return Session(folder, settings, records, chronicle.study, judge, searcher, scheduler, recorder, guard, display)


def experiment_of(settings: SweepSettings, strategy: Strategy) -> Experiment:
    """What a trial of ``strategy`` runs."""
    return Experiment.model_validate(
        {
            "strategy": strategy,
            "data": settings.data,
            "backbone": settings.backbone,
            "seed": settings.seed,
            "budget": settings.budget,
        }
    )


def searched_names(settings: SweepSettings) -> tuple[str, ...]:
    """The hyperparameters of all strategies together, by the field's path in an experiment."""
    found = [name for strategy in settings.strategies for name in inventory(strategy)]
    return tuple(dict.fromkeys(f"strategy/{name.partition('/')[2]}" for name in found))
