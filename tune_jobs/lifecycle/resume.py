"""Trials that a driver left unfinished: those with nothing left to do are ended, the others go on."""

from functools import partial

from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.callback import TRIALS, Recorder
from tune_jobs.scheduling.early_stopping import Judge
from tune_jobs.scheduling.seeds import seeds_of
from tune_jobs.state.events import Retried
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.storage.checkpoints import remove_debris
from tune_jobs.storage.location import Place, exists
from tune_jobs.storage.retry import patiently


def settle(state: SweepState, recorder: Recorder, judge: Judge, where: Place, settings: SweepSettings) -> list[int]:
    """End the unfinished trials that have nothing left to do; returns the numbers of the others.

    ``where`` is the sweep's folder, or its place in a bucket. A trial whose saved state is gone starts over.
    """
    for record in state.records.unfinished():
        remove_debris(where / TRIALS / record.name, kept=record.states)
        if record.checkpoint is not None and not _is_there(where / record.checkpoint):
            reason = f"{record.checkpoint} is gone"
            state.happened(Retried(at=state.clock(), trial=record.number, reason=reason, anew=True))
        stopped = record.replica == 0 and record.number in judge.stopped
        if record.saved_unit == record.unit and (record.done or stopped):
            recorder.conclude(record)
        elif record.seeds and record.replica == seeds_of(record, state.records, settings):
            recorder.complete(record)
    return [record.number for record in state.records.unfinished()]


def _is_there(state: Place) -> bool:
    return patiently(partial(exists, state), path=state)
