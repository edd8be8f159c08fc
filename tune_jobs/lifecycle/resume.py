"""Trials that a driver left unfinished: those with nothing left to do are ended, the others go on."""

from functools import partial

from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.callback import TRIALS, SweepCallback
from tune_jobs.scheduling.early_stopping import StoppingDecisions
from tune_jobs.scheduling.seeds import seeds_of
from tune_jobs.state.events import Retried
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.storage.checkpoints import remove_stray_checkpoints
from tune_jobs.storage.location import StorageLocation, exists
from tune_jobs.storage.retry import with_retry


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
        if view.checkpoint is not None and not _is_there(where / view.checkpoint):
            reason = f"{view.checkpoint} is gone"
            state.happened(Retried(at=state.clock(), trial=view.number, reason=reason, anew=True))
        stopped = view.replica == 0 and view.number in decisions.stopped
        if view.saved_unit == view.unit and (view.done or stopped):
            callback.conclude(view)
        elif view.seeds and view.replica == seeds_of(view, state.all_trials, settings):
            callback.complete(view)
    return [view.number for view in state.all_trials.unfinished()]


def _is_there(state: StorageLocation) -> bool:
    return with_retry(partial(exists, state), path=state)
