"""Everything that runs a sweep but Tune: built from the sweep's folder, whether that is new or taken up again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handclip_core.errors import InputError
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.execution.callback import TRIALS, Display, Recorder
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.monitor import MINUTE_S, Guard
from tune_jobs.execution.nodes import Machines, Still
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.execution.trainable import trial_config
from tune_jobs.lifecycle.exports import Exports
from tune_jobs.lifecycle.resume import settle
from tune_jobs.reporting.progress import display_for
from tune_jobs.reporting.summary import say, shown
from tune_jobs.scheduling.early_stopping import Judge, judge_for
from tune_jobs.scheduling.limits import Gate
from tune_jobs.scheduling.seeds import calibrates
from tune_jobs.search.proposer import Proposal, Proposer, SearchProposer
from tune_jobs.search.transfer import transfer
from tune_jobs.state.events import Begun, Event, Learned, Opened
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.local_copy import to_read
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trials import Records, TrialRecord, folded
from tune_jobs.storage.location import Bucket, place_of
from tune_jobs.storage.segments import Segments
from tune_jobs.storage.sync import in_step


@dataclass(frozen=True)
class Session:
    """One driver's work on a sweep. What runs trials asks ``searcher``, and tells ``scheduler`` and ``recorder``."""

    folder: Path
    settings: SweepSettings
    state: SweepState
    judge: Judge
    searcher: SweepSearcher
    scheduler: SweepScheduler
    recorder: Recorder
    guard: Guard
    display: Display

    @property
    def records(self) -> Records:
        """The trials of the sweep."""
        return self.state.records


@contextmanager
def session(
    settings: SweepSettings,
    folder: Path,
    room: Room,
    *,
    stop_wanted: Callable[[], bool],
    proposer: Proposer | None = None,
    machines: Machines | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Session]:
    """Take the sweep in ``folder`` up where its journal ends; raises InputError if its state cannot be read.

    ``proposer`` says what to try; without one, what ``settings`` search for. ``machines`` are those of the cluster that
    ``room`` was made on, if it may change.
    """
    where = place_of(settings.storage, folder)
    events = read_events(folder)
    with Journal(folder / FILE, Segments(where) if isinstance(where, Bucket) else None) as journal:
        state = SweepState(journal, events, clock=clock)
        judge = judge_after(events, state.records, settings)
        guard = Guard(state.records, machines or Still(room), settings.stall_minutes * MINUTE_S, clock, room.workers)
        ready = _assembled(settings, folder, room, state, judge, guard, stop_wanted, proposer)
        with (
            in_step(folder, where),
            closing(Exports(folder, settings, state.records, searched=proposer is None)) as exports,
        ):
            dumped = settings.model_dump(mode="json")
            state.happened(Opened(at=clock(), gpus=room.gpus * room.workers, settings=dumped))
            exports.open(events)
            state.exports.append(exports)
            _learn_once(state, settings)
            ready.searcher.take_up(settle(state, ready.recorder, judge, where, settings))
            ready.recorder.drop_surplus()
            try:
                yield ready
            finally:
                guard.release()


def read_events(folder: Path) -> list[Event]:
    """The journal of the sweep in ``folder``; raises InputError if it is damaged, or missing beside trials."""
    events = read_journal(folder / FILE)
    if not events and any(path.is_dir() for path in (folder / TRIALS).glob("[0-9]*")):
        raise InputError(f"{folder / FILE}: is missing or empty, but the sweep has trials; put back a copy")
    return events


def judge_after(events: Sequence[Event], records: Records, settings: SweepSettings) -> Judge:
    """What early stopping has decided in the course of ``events``, which ``records`` were computed from."""
    judge = judge_for(settings.early_stopping, budget=settings.budget)
    judge.spared.update(record.number for record in records.all() if calibrates(record, records, settings))
    for event in events:
        judge.replay(event, records)
    return judge


def _learn_once(state: SweepState, settings: SweepSettings) -> None:
    """Let the search learn from another sweep, as it was when this one began."""
    if settings.warm_start is None or state.records.learned is not None or state.records.trials:
        return
    past = to_read(settings.warm_start)
    other = load_settings(past / SETTINGS)
    space, objectives = settings.search.space(settings.strategies), settings.search.objectives
    found = transfer(folded(read_events(past)), space, objectives, others=other.search.objectives)
    say(f"learning from {shown(settings.warm_start)}: {found.lines()[0]}")
    for line in found.lines()[1:]:
        print(line, flush=True)
    state.happened(Learned(at=state.clock(), source=str(settings.warm_start), trials=tuple(found.taken)))


def _assembled(
    settings: SweepSettings,
    folder: Path,
    room: Room,
    state: SweepState,
    judge: Judge,
    guard: Guard,
    stop_wanted: Callable[[], bool],
    proposer: Proposer | None,
) -> Session:
    records, gate = state.records, Gate(settings.limits, state.records, state.clock)
    display = display_for(records, num_trials=settings.trials, budget=settings.budget)
    scheduler = SweepScheduler(judge, gate, failing=guard.locate)

    def begin(proposal: Proposal) -> TrialRecord:
        number = len(records.trials)
        state.happened(
            Begun(
                at=state.clock(),
                trial=number,
                params=proposal.params,
                experiment=proposal.experiment,
                origin=proposal.origin,
                notes=proposal.notes,
            )
        )
        if calibrates(records.trials[number], records, settings):
            judge.spared.add(number)
        return records.trials[number]

    def config(record: TrialRecord) -> dict[str, Any]:
        guard.asked_for(record.number)
        every_s = settings.checkpoint_every_s
        where = place_of(settings.storage, folder)
        # What trains on all identities has none left to be scored on.
        scored = proposer is not None and record.experiment.part == "train"
        return trial_config(record, where, room=room, checkpoint_every_s=every_s, final_scores=scored)

    searcher = SweepSearcher(
        proposer or SearchProposer(settings),
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
        state=state,
        searcher=searcher,
        scheduler=scheduler,
        guard=guard,
        display=display,
        stop_wanted=stop_wanted,
    )
    return Session(folder, settings, state, judge, searcher, scheduler, recorder, guard, display)
