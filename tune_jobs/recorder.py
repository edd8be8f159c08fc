"""What happens in a sweep, written down at once: records, study, event logs, leaderboard, trial folders."""

import threading
import time
from math import isnan
from pathlib import Path
from typing import Any, Protocol

from pyarrow.fs import FileSelector  # type: ignore[import-untyped]
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from handclip_core.evaluation.protocol import METRICS
from handclip_core.runs import CONFIG, LOG, write_text
from tune_jobs.event_logs import EventLogs
from tune_jobs.interruption import Interrupted
from tune_jobs.leaderboard import write_leaderboard
from tune_jobs.reasons import reason_of, traceback_of
from tune_jobs.records import Records, Status, TrialRecord
from tune_jobs.scheduler import RungScheduler
from tune_jobs.study import SweepStudy
from tune_jobs.trial import BEST_CMC1, BEST_MAP, BEST_UNIT, PARAMS_TRAINED, STEP_S, UNIT

TRIALS, ERROR = "trials", "error.txt"
WRITE_EVERY_S = 1.0


class Display(Protocol):
    """What shows the sweep to its user."""

    def ended(self, record: TrialRecord) -> None:
        """A trial is over."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...


class Recorder(Callback):  # type: ignore[misc]
    """Tune's events, turned into the state of the sweep. The only writer of the study and of the sweep's folder."""

    def __init__(
        self,
        folder: Path,
        *,
        records: Records,
        study: SweepStudy,
        scheduler: RungScheduler,
        logs: EventLogs,
        display: Display,
        keep: int,
        stop_wanted: threading.Event,
    ) -> None:
        """``keep`` is the number of best trials whose weights are kept; the sweep ends once ``stop_wanted`` is set."""
        self._folder = folder
        self._records = records
        self._study = study
        self._scheduler = scheduler
        self._logs = logs
        self._display = display
        self._keep = keep
        self._stop_wanted = stop_wanted
        self._written_at = 0.0
        self._changed = True

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        """A worker has begun with a trial."""
        record = self._record(trial)
        if record.status is Status.WAITING:
            write_text(self._folder_of(record) / CONFIG, record.experiment.model_dump_json(indent=2))
            self._logs.start(record)
        record.status = Status.RUNNING
        self._changed = True

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        """A trial has validated a unit."""
        record = self._record(trial)
        record.unit = result[UNIT]
        record.map, record.cmc1, record.best_unit = result[BEST_MAP], result[BEST_CMC1], result[BEST_UNIT]
        record.seconds += result[STEP_S]
        record.params_trained = max(record.params_trained or 0, result[PARAMS_TRAINED])
        self._study.report(record.number, unit=record.unit, value=result["map"])
        self._logs.scalars(record, shown_scalars(result), images=result["images"])
        self._changed = True

    def on_checkpoint(self, *, trial: Trial, checkpoint: Checkpoint, **_: Any) -> None:
        """A trial's state is in the storage."""
        self._record(trial).checkpoint = checkpoint

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """A trial has ended by itself or was stopped early."""
        record = self._record(trial)
        if isnan(record.map):
            self._fail(record, "validation mAP is not a number")
            return
        stopped = trial.trial_id in self._scheduler.stopped
        record.status = Status.STOPPED if stopped else Status.COMPLETE
        self._note(record)
        if stopped:
            self._study.prune(record.number)
        else:
            self._study.complete(record.number, value=record.map)
        self._end(record)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """A trial has failed for good."""
        record = self._record(trial)
        write_text(self._folder_of(record) / ERROR, traceback_of(trial))
        self._fail(record, reason_of(trial))

    def on_step_end(self, **_: Any) -> None:
        """Write the leaderboard now and then, let the display breathe; raise Interrupted where that is wanted."""
        if self._stop_wanted.is_set():
            self._interrupt()
            raise Interrupted
        self._display.tick()
        if self._changed and time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the leaderboard as it stands."""
        write_leaderboard(self._records, self._folder)
        self._written_at, self._changed = time.monotonic(), False

    def _interrupt(self) -> None:
        """Mark what will not come to an end, and write first of all; the study keeps such trials as running."""
        for record in self._records.all():
            if not record.status.over:
                record.status = Status.INTERRUPTED
        self.write()

    def _record(self, trial: Trial) -> TrialRecord:
        return self._records.by_id[trial.trial_id]

    def _folder_of(self, record: TrialRecord) -> Path:
        folder = self._folder / TRIALS / record.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _fail(self, record: TrialRecord, reason: str) -> None:
        record.status, record.reason = Status.FAILED, reason
        self._note(record)
        self._study.fail(record.number, reason=reason)
        self._end(record)

    def _note(self, record: TrialRecord) -> None:
        self._study.note(
            record.number,
            outcome={
                "status": record.status,
                "unit": record.unit,
                "best_unit": record.best_unit,
                "map": None if isnan(record.map) else record.map,
                "cmc1": None if isnan(record.cmc1) else record.cmc1,
                "seconds": round(record.seconds, 3),
                "params_trained": record.params_trained,
            },
        )

    def _end(self, record: TrialRecord) -> None:
        self._logs.end(record)
        self._display.ended(record)
        self._changed = True
        over = [item for item in self._records.ranked() if item.status.over and item.checkpoint is not None]
        for item in [item for item in over if not item.judged] + [item for item in over if item.judged][self._keep :]:
            drop_weights(item.checkpoint)
            item.checkpoint = None


def drop_weights(checkpoint: Checkpoint) -> None:
    """Delete all files of a checkpoint but its training log."""
    for info in checkpoint.filesystem.get_file_info(FileSelector(checkpoint.path)):
        if info.base_name != LOG and info.is_file:
            checkpoint.filesystem.delete_file(info.path)


def shown_scalars(result: dict[str, Any]) -> dict[str, float]:
    """What of a trial's result goes into its event log: validation scores, losses, learning rates."""
    scores = {f"val/{name}": float(result[name]) for name in METRICS}
    training = {name: float(value) for name, value in result.items() if name.startswith(("loss/", "lr/"))}
    return {**scores, **training}
