"""Everything that runs a sweep but Tune: built from the sweep's folder, whether that is new or taken up again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from handclip_core.errors import InputError
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.execution.callback import SweepCallback
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import MINUTE_S, TrialMonitor
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.lifecycle.exports import Exports
from tune_jobs.reporting.progress import Progress, progress_for
from tune_jobs.reporting.summary import log, shown
from tune_jobs.scheduling.early_stopping import StoppingDecisions, decisions_for
from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.scheduling.seeds import is_power_baseline, seeds_of
from tune_jobs.search.proposer import Proposer
from tune_jobs.search.transfer import transfer
from tune_jobs.state.events import Event, Learned, Opened, Retried
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.local_copy import readable_folder
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import TRIALS, Trials, folded
from tune_jobs.storage.checkpoints import remove_stray_checkpoints
from tune_jobs.storage.location import BucketLocation, StorageLocation, exists, location_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.segments import JournalSegments
from tune_jobs.storage.sync import synced


@dataclass(frozen=True)
class SweepRun:
    """One driver's work on a sweep. What runs trials asks ``searcher``, and tells ``scheduler`` and ``callback``."""

    folder: Path
    settings: SweepSettings
    state: SweepState
    searcher: SweepSearcher
    scheduler: SweepScheduler
    callback: SweepCallback
    monitor: TrialMonitor
    display: Progress
    exports: Exports

    @property
    def all_trials(self) -> Trials:
        """The trials of the sweep."""
        return self.state.all_trials


@contextmanager
def build(
    settings: SweepSettings,
    folder: Path,
    trial_resources: TrialResources,
    *,
    stop_requested: Callable[[], bool],
    nodes: RayNodes,
    proposer: Proposer | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[SweepRun]:
    """Take the sweep in ``folder`` up where its journal ends; raises InputError if its state cannot be read.

    ``proposer`` says what to try; without one, what ``settings`` search for. ``nodes`` are those of the cluster.
    """
    where, workers = location_of(settings.storage, folder), trial_resources.workers
    events = read_events(folder)
    with Journal(folder / FILE, JournalSegments(where) if isinstance(where, BucketLocation) else None) as journal:
        state = SweepState(journal, events, clock=clock)
        all_trials = state.all_trials
        decisions = judge_after(events, all_trials, settings)
        monitor = TrialMonitor(all_trials, nodes, settings.stall_minutes * MINUTE_S, clock, workers)
        limit_check = LimitCheck(settings.limits, all_trials, clock)
        rung, main = settings.early_stopping.second_rung, settings.search.objectives[0]
        display = progress_for(all_trials, num_trials=settings.trials, budget=settings.budget, second_rung=rung)
        scheduler = SweepScheduler(decisions, limit_check, objective=main, failing=monitor.locate)
        searcher = SweepSearcher(
            settings,
            where,
            trial_resources,
            proposer,
            state=state,
            decisions=decisions,
            limit_check=limit_check,
            monitor=monitor,
        )
        callback = SweepCallback(
            folder,
            settings,
            state=state,
            searcher=searcher,
            scheduler=scheduler,
            monitor=monitor,
            display=display,
            stop_requested=stop_requested,
        )
        searcher.waits = callback.on_step_end
        with synced(folder, where), closing(Exports(folder, settings, all_trials, searched=proposer is None)) as export:
            # Before anything else happens: from here on a resume knows with which settings trials ran.
            gpus = trial_resources.gpus * workers
            state.happened(Opened(at=clock(), gpus=gpus, settings=settings.model_dump(mode="json")))
            export.open(events)
            state.exports.append(export.happened)
            _learn_once(state, settings)
            searcher.take_up(settle(state, callback, decisions, where, settings))
            callback.drop_old_checkpoints()
            try:
                yield SweepRun(folder, settings, state, searcher, scheduler, callback, monitor, display, export)
            finally:
                monitor.release()


def read_events(folder: Path) -> list[Event]:
    """The journal of the sweep in ``folder``; raises InputError if it is damaged, or missing beside trials."""
    events = read_journal(folder / FILE)
    if not events and any(path.is_dir() for path in (folder / TRIALS).glob("[0-9]*")):
        raise InputError(f"{folder / FILE}: is missing or empty, but the sweep has trials; put back a copy")
    return events


def judge_after(events: Sequence[Event], all_trials: Trials, settings: SweepSettings) -> StoppingDecisions:
    """What early stopping has decided in the course of ``events``, which ``all_trials`` were computed from."""
    decisions = decisions_for(settings.early_stopping, budget=settings.budget)
    decisions.exempt.update(view.number for view in all_trials.all() if is_power_baseline(view, all_trials, settings))
    for event in events:
        decisions.replay(event, all_trials)
    return decisions


def _learn_once(state: SweepState, settings: SweepSettings) -> None:
    """Let the search learn from another sweep, as it was when this one began."""
    if settings.warm_start is None or state.all_trials.learned is not None or state.all_trials.trials:
        return
    past = readable_folder(settings.warm_start)
    objectives, others = settings.search.objectives, load_settings(past / SETTINGS).search.objectives

    def arm_here(view: TrialView) -> str:
        several = bool(view.backbone) or len(settings.backbones) > 1
        return settings.arm_of(view.experiment) if several else view.arm

    found = transfer(folded(read_events(past)), settings.space, objectives, others=others, arm_here=arm_here)
    log(f"learning from {shown(settings.warm_start)}: {found.lines()[0]}")
    for line in found.lines()[1:]:
        print(line, flush=True)
    state.happened(Learned(at=state.clock(), source=str(settings.warm_start), trials=tuple(found.taken)))


def settle(
    state: SweepState,
    callback: SweepCallback,
    decisions: StoppingDecisions,
    where: StorageLocation,
    settings: SweepSettings,
) -> list[int]:
    """End the unfinished trials that have nothing left to do; returns the numbers of the others.

    ``where`` is the sweep's folder, or its place in a bucket. A trial whose saved state is gone starts over.
    """
    for view in state.all_trials.unfinished():
        remove_stray_checkpoints(where / TRIALS / view.name, kept=view.states)
        if view.checkpoint is not None and not with_retry(
            partial(exists, where / view.checkpoint), path=where / view.checkpoint
        ):
            reason = f"{view.checkpoint} is gone"
            state.happened(Retried(at=state.clock(), trial=view.number, reason=reason, anew=True))
        stopped = view.replica == 0 and view.number in decisions.stopped
        # The driver before has died between the last state and the end: nothing is left to train.
        if view.saved_unit == view.unit and (view.done or stopped):
            callback.conclude(view)
        # It has died between the end of the last seed and that of the trial.
        elif view.seeds and view.replica == seeds_of(view, state.all_trials, settings):
            callback.complete(view)
    return [view.number for view in state.all_trials.unfinished()]
