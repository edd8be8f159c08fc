"""Everything that runs a sweep but Tune: built from the sweep's folder, whether that is new or taken up again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from handclip_core.errors import InputError
from tune_jobs.config.settings import SETTINGS, SweepSettings, load_settings
from tune_jobs.execution.callback import TRIALS, ProgressDisplay, SweepCallback
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import MINUTE_S, TrialMonitor
from tune_jobs.execution.nodes import FixedNodes, Nodes
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.execution.trainable import trial_config
from tune_jobs.lifecycle.exports import Exports
from tune_jobs.lifecycle.resume import settle
from tune_jobs.reporting.progress import display_for
from tune_jobs.reporting.summary import log, shown
from tune_jobs.scheduling.early_stopping import StoppingDecisions, decisions_for
from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.scheduling.seeds import is_power_baseline
from tune_jobs.search.proposer import Proposal, Proposer, SearchProposer
from tune_jobs.search.transfer import transfer
from tune_jobs.state.events import Begun, Event, Learned, Opened
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.local_copy import readable_folder
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trials import Trials, TrialView, folded
from tune_jobs.storage.location import BucketLocation, location_of
from tune_jobs.storage.segments import JournalSegments
from tune_jobs.storage.sync import synced


@dataclass(frozen=True)
class SweepRun:
    """One driver's work on a sweep. What runs trials asks ``searcher``, and tells ``scheduler`` and ``callback``."""

    folder: Path
    settings: SweepSettings
    state: SweepState
    decisions: StoppingDecisions
    searcher: SweepSearcher
    scheduler: SweepScheduler
    callback: SweepCallback
    monitor: TrialMonitor
    display: ProgressDisplay

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
    proposer: Proposer | None = None,
    nodes: Nodes | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[SweepRun]:
    """Take the sweep in ``folder`` up where its journal ends; raises InputError if its state cannot be read.

    ``proposer`` says what to try; without one, what ``settings`` search for. ``nodes`` are those of the cluster that
    ``trial_resources`` was made on, if it may change.
    """
    where = location_of(settings.storage, folder)
    events = read_events(folder)
    with Journal(folder / FILE, JournalSegments(where) if isinstance(where, BucketLocation) else None) as journal:
        state = SweepState(journal, events, clock=clock)
        decisions = judge_after(events, state.all_trials, settings)
        monitor = TrialMonitor(
            state.all_trials,
            nodes or FixedNodes(trial_resources),
            settings.stall_minutes * MINUTE_S,
            clock,
            trial_resources.workers,
        )
        ready = _assembled(settings, folder, trial_resources, state, decisions, monitor, stop_requested, proposer)
        with (
            synced(folder, where),
            closing(Exports(folder, settings, state.all_trials, searched=proposer is None)) as exports,
        ):
            dumped = settings.model_dump(mode="json")
            state.happened(Opened(at=clock(), gpus=trial_resources.gpus * trial_resources.workers, settings=dumped))
            exports.open(events)
            state.exports.append(exports.happened)
            _learn_once(state, settings)
            ready.searcher.take_up(settle(state, ready.callback, decisions, where, settings))
            ready.callback.drop_old_checkpoints()
            try:
                yield ready
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
    other = load_settings(past / SETTINGS)
    space, objectives = settings.search.space(settings.strategies), settings.search.objectives
    found = transfer(folded(read_events(past)), space, objectives, others=other.search.objectives)
    log(f"learning from {shown(settings.warm_start)}: {found.lines()[0]}")
    for line in found.lines()[1:]:
        print(line, flush=True)
    state.happened(Learned(at=state.clock(), source=str(settings.warm_start), trials=tuple(found.taken)))


def _begin(state: SweepState, decisions: StoppingDecisions, settings: SweepSettings, proposal: Proposal) -> TrialView:
    """Write down that the trial of ``proposal`` begins."""
    number = len(state.all_trials.trials)
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
    view = state.all_trials.trials[number]
    if is_power_baseline(view, state.all_trials, settings):
        decisions.exempt.add(number)
    return view


def _assembled(
    settings: SweepSettings,
    folder: Path,
    trial_resources: TrialResources,
    state: SweepState,
    decisions: StoppingDecisions,
    monitor: TrialMonitor,
    stop_requested: Callable[[], bool],
    proposer: Proposer | None,
) -> SweepRun:
    all_trials, limit_check = state.all_trials, LimitCheck(settings.limits, state.all_trials, state.clock)
    display = display_for(all_trials, num_trials=settings.trials, budget=settings.budget)
    scheduler = SweepScheduler(decisions, limit_check, failing=monitor.locate)

    def config(view: TrialView) -> dict[str, Any]:
        monitor.asked_for(view.number)
        every_s = settings.checkpoint_every_s
        where = location_of(settings.storage, folder)
        # What trains on all identities has none left to be scored on.
        scored = proposer is not None and view.experiment.part == "train"
        return trial_config(
            view, where, trial_resources=trial_resources, checkpoint_every_s=every_s, final_scores=scored
        )

    searcher = SweepSearcher(
        proposer or SearchProposer(settings),
        all_trials,
        trials=settings.trials,
        limit_check=limit_check,
        begin=partial(_begin, state, decisions, settings),
        config=config,
        at_a_time=monitor.at_a_time,
        waits=lambda: callback.on_step_end(),
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
    return SweepRun(folder, settings, state, decisions, searcher, scheduler, callback, monitor, display)
