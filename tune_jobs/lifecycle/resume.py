"""Taking a sweep up again after its driver has died: study, rungs and folders are brought in line with its journal."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from handclip_core.errors import InputError
from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.callback import TRIALS, Recorder
from tune_jobs.scheduling.early_stopping import Judge
from tune_jobs.scheduling.seeds import calibrates, seeds_of
from tune_jobs.search.study import Asked
from tune_jobs.state.chronicle import Chronicle
from tune_jobs.state.events import Begun, Event, Retried
from tune_jobs.state.trials import Records, TrialRecord
from tune_jobs.storage.checkpoints import remove_debris
from tune_jobs.storage.location import Place, exists
from tune_jobs.storage.retry import patiently


def replay(events: Sequence[Event], records: Records, judge: Judge, settings: SweepSettings) -> None:
    """Let trials and rungs become what they were after ``events``."""
    for event in events:
        records.apply(event)
        if isinstance(event, Begun) and calibrates(records.trials[event.trial], records, settings):
            judge.spared.add(event.trial)
        judge.replay(event, records)


def catch_up(chronicle: Chronicle, stored: Sequence[FrozenTrial], *, source: str, may_lag: bool = False) -> list[Asked]:
    """Bring the study, whose trials are ``stored``, in line with the journal.

    A study that ``may_lag`` is a copy from before the journal's end: the trials that it lacks are made again.

    Returns what the study suggested last, where the driver died before it could write that down. Raises InputError
    where the two do not belong together; ``source`` names the study.
    """
    refuse_another_study(chronicle.records, stored, source=source, may_lag=may_lag)
    known = chronicle.records.trials
    by_number = {trial.number: trial for trial in stored}
    for record in chronicle.records.all():
        trial = by_number.get(record.number)
        if trial is None and (record.source or may_lag):
            _add_taken_over(chronicle, record)
            continue
        if trial is not None and not trial.state.is_finished():
            _catch_up_one(chronicle, record)
    left_over = [n for n, trial in by_number.items() if trial.state is TrialState.RUNNING and n not in known]
    return [chronicle.study.adopt(number) for number in sorted(left_over)]


def refuse_another_study(records: Records, stored: Sequence[FrozenTrial], *, source: str, may_lag: bool) -> None:
    """Raise InputError where the trials ``stored`` in a study cannot be those of a journal; ``source`` names it.

    With ``may_lag`` it may lack the last ones.
    """
    by_number = {trial.number: trial for trial in stored}
    for record in records.all():
        trial = by_number.get(record.number)
        if trial is None and (record.source or may_lag):
            continue
        if trial is None or (trial.state.is_finished() and not record.status.over):
            raise InputError(
                f"{source}: not the study of this sweep's journal (trial {record.number} does not agree); "
                "put back the study, or begin another sweep with --fork"
            )


def settle(chronicle: Chronicle, recorder: Recorder, judge: Judge, where: Place, settings: SweepSettings) -> list[int]:
    """End the unfinished trials that have nothing left to do; returns the numbers of the others.

    ``where`` is the sweep's folder, or its place in a bucket.
    """
    for record in chronicle.records.unfinished():
        remove_debris(record, where / TRIALS / record.name)
        if record.checkpoint is not None and not _is_there(where / record.checkpoint):
            reason = f"{record.checkpoint} is gone"
            chronicle.happened(Retried(at=chronicle.clock(), trial=record.number, reason=reason, anew=True))
        stopped = record.replica == 0 and record.number in judge.stopped
        if record.saved_unit == record.unit and (record.done or stopped):
            recorder.conclude(record)
        elif record.seeds and record.replica == seeds_of(record, chronicle.records, settings):
            recorder.complete(record)
    return [record.number for record in chronicle.records.unfinished()]


def _catch_up_one(chronicle: Chronicle, record: TrialRecord) -> None:
    chronicle.study.adopt(record.number)
    _tell_all(chronicle, record)


def _add_taken_over(chronicle: Chronicle, record: TrialRecord) -> None:
    chronicle.study.take_over(record.experiment.strategy, number=record.number, origin=record.origin)
    _tell_all(chronicle, record)


def _tell_all(chronicle: Chronicle, record: TrialRecord) -> None:
    for unit, value in record.curve.items():
        chronicle.study.report(record.number, unit=unit, value=value)
    if record.status.over:
        chronicle.tell(record)


def _is_there(state: Place) -> bool:
    return patiently(lambda: exists(state), path=state)
