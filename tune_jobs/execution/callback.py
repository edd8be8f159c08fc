"""What happens in a sweep, written down at once: chronicle, event logs, leaderboard, trial folders."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from ray.tune.result import SHOULD_CHECKPOINT

from handclip_core.devices import Device
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import METRICS, OBJECTIVE
from handclip_core.evaluation.retention import RETENTION
from handclip_core.runs.run_folder import CONFIG, write_text
from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.failures import Kind, failure_of, traceback_of
from tune_jobs.execution.monitor import Guard
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.execution.signals import Interrupted, end_workers
from tune_jobs.execution.train_fn import NODES
from tune_jobs.execution.trainable import number_of
from tune_jobs.reporting.leaderboard import write_leaderboard
from tune_jobs.reporting.tensorboard import EventLogs
from tune_jobs.scheduling.power_analysis import SEEDS
from tune_jobs.scheduling.retries import after_failure
from tune_jobs.scheduling.seeds import calibrates, calibration_of, seeds_of
from tune_jobs.state.chronicle import Chronicle
from tune_jobs.state.events import (
    Alive,
    Begun,
    Closed,
    Cut,
    Dropped,
    Ended,
    Event,
    Moved,
    Retried,
    Saved,
    SeedEnded,
    Started,
    Trained,
    Validated,
)
from tune_jobs.state.trials import TrialRecord
from tune_jobs.storage.checkpoints import drop_state, drop_weights, remove_debris, size_of, surplus
from tune_jobs.storage.location import opened, place_of
from tune_jobs.storage.retry import patiently

TRIALS, ERROR = "trials", "error.txt"
WRITE_EVERY_S = 1.0
ALIVE_EVERY_S = 60.0
"""Seconds without news after which the journal gets a sign of life, so that a dead driver's hours are known."""


class Display(Protocol):
    """What shows the sweep to its user."""

    def shown(self) -> AbstractContextManager[None]:
        """The block within which it is shown."""
        ...

    def ended(self, record: TrialRecord) -> None:
        """A trial is over."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...


class Recorder(Callback):  # type: ignore[misc]
    """Tune's events, turned into the state of the sweep. Nothing else writes to the sweep's folder while it runs."""

    def __init__(
        self,
        folder: Path,
        settings: SweepSettings,
        *,
        chronicle: Chronicle,
        searcher: SweepSearcher,
        scheduler: SweepScheduler,
        guard: Guard,
        logs: EventLogs,
        display: Display,
        stop_wanted: Callable[[], bool],
    ) -> None:
        """The sweep ends once ``stop_wanted`` says so."""
        self._folder, self._place = folder, place_of(settings.storage, folder)
        self._settings = settings
        self._chronicle = chronicle
        self._records = chronicle.records
        self._searcher = searcher
        self._scheduler = scheduler
        self._guard = guard
        self._logs = logs
        self._display = display
        self._stop_wanted = stop_wanted
        self._broken: InputError | None = None
        self._written_at, self._write_took_s = 0.0, 0.0
        self._changed = True

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        """A worker has begun with a trial, or goes on with it."""
        record = self._record(trial)
        patiently(lambda: self._write_config(record), path=self._folder)
        self._logs.start(record)
        self._guard.begun(trial)
        self._happened(Started(at=self._now(), trial=record.number))
        self.drop_surplus()

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        """A trial has trained a unit; one that must leave its machine saves its state after it."""
        record = self._record(trial)
        self._guard.heard_of(trial, result.get(NODES, ()))
        if self._guard.must_leave(trial) and trial.config["workers"] == 1:
            result[SHOULD_CHECKPOINT] = True
        if record.replica == 0 and (0, result["unit"]) > record.furthest:
            self._logs.scalars(record, shown_scalars(result), images=result["images"])
        self._happened((validated if result["evaluated"] else trained)(record, result, at=self._now()))
        if CHECKPOINT_PATH_KEY in result:
            self._saved(trial, result[CHECKPOINT_PATH_KEY])

    def on_checkpoint(self, *, trial: Trial, checkpoint: Checkpoint, **_: Any) -> None:
        """The state of a trial of one worker is in the storage."""
        self._saved(trial, checkpoint.path)

    def _saved(self, trial: Trial, checkpoint: str) -> None:
        """A trial's state is in the storage; the one before it goes."""
        record = self._record(trial)
        before, path = record.checkpoint, Path(checkpoint).relative_to(opened(self._place).path).as_posix()
        saved = Saved(
            at=self._now(),
            trial=record.number,
            unit=record.unit,
            checkpoint=path,
            size=patiently(lambda: size_of(self._place / path), path=self._place),
        )
        self._happened(saved)
        if before is not None and before != saved.checkpoint:
            drop_state(self._place / before)
        self.drop_surplus()
        self._guard.heard_of(trial)
        self._guard.leave(trial)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """A trial has ended by itself, was stopped early, or was cut short by a limit."""
        record = self._record(trial)
        self._guard.ended(trial)
        if record.number in self._scheduler.cut:
            self._happened(Cut(at=self._now(), trial=record.number))
        else:
            self.conclude(record)
        self._guard.leave(trial)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """An attempt at a trial has failed, or its machine goes; it gets another, or the trial has failed for good."""
        record, failure = self._record(trial), self._guard.why(failure_of(trial))
        failure = self._guard.failed(trial, failure, under_way=self._searcher.num_under_way)
        on_cpu = trial.config["device"] == Device.CPU
        follows = after_failure(record, failure, retries=self._settings.retries, at=self._now(), on_cpu=on_cpu)
        if failure.kind is Kind.LOW_MEMORY and not isinstance(follows, Ended):
            smaller = follows.micro_batch if isinstance(follows, Retried) else None
            how = "" if smaller is None else f" with {smaller} images per pass"
            print(f"trial {record.number} goes on later{how}: {self._guard.told(failure)}", flush=True)
        elif failure.kind is Kind.MOVED:
            print(f"trial {record.number} goes on elsewhere: {failure.reason}", flush=True)
        if failure.kind is not Kind.MOVED:
            patiently(lambda: self._add_error(record, traceback_of(trial)), path=self._folder)
        if isinstance(follows, Retried | Moved):
            self._happened(follows)
            self._searcher.again(record.number)
        else:
            self._end(record, follows)

    def on_step_end(self, *, trials: Sequence[Trial] = (), **_: Any) -> None:
        """Write the leaderboard now and then, let the display breathe; raise Interrupted where that is wanted."""
        if self._stop_wanted() or self._broken is not None:
            end_workers(trials)
            raise self._broken or Interrupted
        self._guard.look(trials)
        self._display.tick()
        if self._now() - self._chronicle.written_at >= ALIVE_EVERY_S:
            self._happened(Alive(at=self._now()))
        if self._changed and time.monotonic() - self._written_at >= max(WRITE_EVERY_S, 20 * self._write_took_s):
            self.write()

    def begin(self, event: Begun) -> TrialRecord:
        """Record a trial that the study has suggested."""
        self._happened(event)
        record = self._records.trials[event.trial]
        if calibrates(record, self._records, self._settings):
            self._scheduler.judge.spared.add(record.number)
        return record

    def conclude(self, record: TrialRecord) -> None:
        """End a trial that has trained all that it was allowed to."""
        at, number = self._now(), record.number
        if isnan(record.present[0]):
            self._end(record, Ended(at=at, trial=number, status="failed", reason="validation mAP is not a number"))
        elif record.replica == 0 and number in self._scheduler.judge.stopped:
            self._end(record, Ended(at=at, trial=number, status="stopped"))
        elif seeds_of(record, self._records, self._settings) == 1:
            self.complete(record)
        else:
            self._end_seed(record)

    def complete(self, record: TrialRecord) -> None:
        """End a trial that has used its whole budget on all of its seeds."""
        self._end(record, Ended(at=self._now(), trial=record.number, status="complete"))

    def _end_seed(self, record: TrialRecord) -> None:
        """The trial has used the budget on one of several seeds; the next one follows, or it is complete."""
        passing = record.checkpoint if record.replica > 0 else None
        score, rate = record.present
        self._happened(SeedEnded(at=self._now(), trial=record.number, map=score, cmc1=rate))
        if passing is not None:
            drop_state(self._place / passing)
        if record.replica < seeds_of(record, self._records, self._settings):
            self._searcher.again(record.number)
        else:
            self.complete(record)
        if len(record.seeds) == SEEDS and calibrates(record, self._records, self._settings):
            print("\n".join(calibration_of(self._records, self._settings)), flush=True)

    def close(self, reason: str) -> None:
        """Note that the driver leaves, and why where trials are unfinished."""
        self._happened(Closed(at=self._now(), reason=reason))
        self.write()

    def write(self) -> None:
        """Write the leaderboard as it stands."""
        began = time.monotonic()
        patiently(lambda: write_leaderboard(self._records, self._folder), path=self._folder)
        self._written_at, self._changed = time.monotonic(), False
        self._write_took_s = self._written_at - began

    def _happened(self, event: Event) -> None:
        """Tune swallows some errors and wraps others, so one is kept for the end of its step; nothing follows it."""
        if self._broken is None:
            try:
                self._chronicle.happened(event)
            except InputError as error:
                self._broken = error
        self._changed = True

    def _end(self, record: TrialRecord, event: Ended) -> None:
        self._happened(event)
        if self._broken is not None:
            return
        self._logs.end(record)
        self._display.ended(record)
        if record.attempts > 1 or self._settings.resources.workers > 1:
            remove_debris(record, self._place / TRIALS / record.name)
        self.drop_surplus()

    def drop_surplus(self) -> None:
        """Delete the weights of trials that are over and not among the best."""
        quota = self._settings.limits.disk_gib
        for record in surplus(self._records, keep=self._settings.keep_checkpoints, disk_gib=quota):
            assert record.checkpoint is not None, "surplus looks at saved states"
            patiently(partial(drop_weights, self._place / record.checkpoint), path=self._place)
            self._happened(Dropped(at=self._now(), trial=record.number))

    def _record(self, trial: Trial) -> TrialRecord:
        return self._records.trials[number_of(trial)]

    def _write_config(self, record: TrialRecord) -> None:
        write_text(self._folder_of(record) / CONFIG, record.experiment.model_dump_json(indent=2))

    def _add_error(self, record: TrialRecord, text: str) -> None:
        with (self._folder_of(record) / ERROR).open("a", encoding="utf-8") as file:
            file.write(text)

    def _folder_of(self, record: TrialRecord) -> Path:
        folder = self._folder / TRIALS / record.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _now(self) -> float:
        return self._chronicle.clock()


def validated(record: TrialRecord, result: dict[str, Any], *, at: float) -> Validated:
    """The event of a trial's result."""
    return Validated(
        at=at,
        trial=record.number,
        replica=record.replica,
        unit=result["unit"],
        done=result["unit"] in (0, record.experiment.budget),
        metrics={name: result["metrics"][name] for name in METRICS},
        best_map=result["best"][OBJECTIVE],
        best_cmc1=result["best"]["cmc1"],
        best_unit=result["best"]["unit"],
        best_retention=result["best"][RETENTION],
        seconds=result["seconds"],
        params_trained=result["params_trained"],
    )


def trained(record: TrialRecord, result: dict[str, Any], *, at: float) -> Trained:
    """The event of a trial's result that has no scores."""
    return Trained(
        at=at,
        trial=record.number,
        replica=record.replica,
        unit=result["unit"],
        seconds=result["seconds"],
        params_trained=result["params_trained"],
    )


def shown_scalars(result: dict[str, Any]) -> dict[str, float]:
    """What of a trial's result goes into its event log: validation metrics if there are any, losses, learning rates."""
    metrics: dict[str, float] = {f"val/{name}": value for name, value in result["metrics"].items()}
    return {**metrics, **result["training"]}
