"""What happens to Tune's trials, turned into events of the sweep, and what follows from each at once."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any, Literal

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from ray.tune.result import SHOULD_CHECKPOINT

from handclip_core.devices import Device
from handclip_core.errors import InputError
from handclip_core.runs.run_folder import CONFIG, write_text
from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.failures import drop_files_of, failure_of, traceback_of
from tune_jobs.execution.monitor import TrialMonitor
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.execution.signals import Interrupted, end_workers
from tune_jobs.execution.train_fn import GROUP, NODES
from tune_jobs.execution.trainable import MEMORY, number_of
from tune_jobs.reporting.leaderboard import write_leaderboard
from tune_jobs.reporting.power_analysis_text import power_analysis_of
from tune_jobs.reporting.progress import Progress
from tune_jobs.scheduling.limits import checkpoints_to_drop
from tune_jobs.scheduling.power_analysis import SEEDS
from tune_jobs.scheduling.retries import FailureKind, after_failure
from tune_jobs.scheduling.seeds import is_power_baseline, seeds_of
from tune_jobs.state import events
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import TRIALS
from tune_jobs.storage.checkpoints import drop_state, drop_weights, remove_stray_checkpoints, size_of
from tune_jobs.storage.location import location_of, open_location
from tune_jobs.storage.retry import with_retry

ERROR = "error.txt"
WRITE_EVERY_S = 1.0
ALIVE_EVERY_S = 60.0
"""Seconds without news after which the journal gets a sign of life, so that a dead driver's hours are known."""


class SweepCallback(Callback):  # type: ignore[misc]
    """Hears of every trial from Tune. Nothing else writes to the sweep's folder while it runs."""

    def __init__(
        self,
        folder: Path,
        settings: SweepSettings,
        *,
        state: SweepState,
        searcher: SweepSearcher,
        scheduler: SweepScheduler,
        monitor: TrialMonitor,
        display: Progress,
        stop_requested: Callable[[], bool],
    ) -> None:
        """The sweep ends once ``stop_requested`` says so."""
        self._folder, self._location, self._settings = folder, location_of(settings.storage, folder), settings
        self._state, self._all_trials = state, state.all_trials
        self._searcher, self._scheduler, self._monitor = searcher, scheduler, monitor
        self._display, self._stop_requested = display, stop_requested
        self._broken: InputError | None = None
        self._written_at, self._write_took_s = 0.0, 0.0
        self._changed = True
        self._with_strays: list[TrialView] = []

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        """A worker has begun with a trial, or goes on with it."""
        view = self._view(trial)
        text = view.experiment.model_dump_json(indent=2)
        # Written at every start: a trial that is tried again may take its batches in smaller parts.
        with_retry(lambda: write_text(self._folder_of(view) / CONFIG, text), path=self._folder)
        self._monitor.heard_of(trial)
        self._monitor.locate(trial)
        self._remove_stray()
        self._happened(events.Started(at=self._now(), trial=view.number))
        self.drop_old_checkpoints()

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        """A trial has trained a unit; one that must leave its node saves its state after it."""
        self._monitor.heard_of(trial, result.get(NODES, ()), result.get(GROUP, ""))
        # Several workers save by themselves; they cannot be asked to.
        if self._monitor.leaving_node(trial) and trial.config["workers"] == 1:
            result[SHOULD_CHECKPOINT] = True
        self._happened(unit_event(self._view(trial), result, at=self._now()))
        if CHECKPOINT_PATH_KEY in result:
            self._saved(trial, result[CHECKPOINT_PATH_KEY])

    def on_checkpoint(self, *, trial: Trial, checkpoint: Checkpoint, **_: Any) -> None:
        """The state of a trial of one worker is in the storage."""
        self._saved(trial, checkpoint.path)

    def _saved(self, trial: Trial, checkpoint: str) -> None:
        """A trial's state is in the storage; the one before it goes."""
        view = self._view(trial)
        before, path = view.checkpoint, Path(checkpoint).relative_to(open_location(self._location).path).as_posix()
        size = with_retry(lambda: size_of(self._location / path), path=self._location)
        self._happened(events.Saved(at=self._now(), trial=view.number, unit=view.unit, checkpoint=path, size=size))
        # After the event: a driver that dies here leaves a state too many, never none.
        if before is not None and before != path:
            drop_state(self._location / before)
        self.drop_old_checkpoints()
        self._monitor.heard_of(trial)
        self._monitor.leave(trial)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """A trial has ended by itself, was stopped early, or was cut short by a limit."""
        view = self._view(trial)
        self._monitor.ended(trial)
        if view.number in self._scheduler.cut:
            self._happened(events.Cut(at=self._now(), trial=view.number))
        else:
            self.conclude(view)
        self._monitor.leave(trial)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """An attempt at a trial has failed, or its node goes; it gets another, or the trial has failed for good."""
        view, failure = self._view(trial), self._monitor.why(failure_of(trial))
        failure = self._monitor.failed(trial, failure, under_way=self._searcher.num_under_way)
        on_cpu = trial.config["device"] == Device.CPU
        follows = after_failure(view, failure, retries=self._settings.retries, at=self._now(), on_cpu=on_cpu)
        if failure.kind is FailureKind.MOVED:
            print(f"trial {view.number} goes on elsewhere: {failure.reason}", flush=True)
        else:
            with_retry(lambda: self._add_error(view, traceback_of(trial)), path=self._folder)
        if failure.kind is FailureKind.LOW_MEMORY and not isinstance(follows, events.Ended):
            smaller = follows.micro_batch if isinstance(follows, events.Retried) else None
            how = "" if smaller is None else f" with {smaller} images per pass"
            print(f"trial {view.number} goes on later{how}: {self._monitor.told(failure)}", flush=True)
        elif isinstance(follows, events.Retried):
            print(f"trial {view.number} is tried again: {failure.reason}", flush=True)
        drop_files_of(trial)
        if isinstance(follows, events.Ended):
            self._end(view, follows)
        else:
            self._happened(follows)
            self._searcher.take_up([view.number])

    def on_step_end(self, *, trials: Sequence[Trial] = (), **_: Any) -> None:
        """Write the leaderboard now and then, tick the display; raise Interrupted if that is wanted."""
        if self._stop_requested() or self._broken is not None:
            end_workers(trials)
            raise self._broken or Interrupted
        for line in self._monitor.poll(trials):
            print(line, flush=True)
        if self._all_trials.awaits_result:
            for measured in self._monitor.measured(trials):
                self._happened(measured)
        self._display.tick()
        if self._now() - self._state.written_at >= ALIVE_EVERY_S:
            self._happened(events.Alive(at=self._now()))
        # At most a twentieth of the time goes into the leaderboard, however long it gets.
        if self._changed and time.monotonic() - self._written_at >= max(WRITE_EVERY_S, 20 * self._write_took_s):
            self.write()

    def conclude(self, view: TrialView) -> None:
        """End a trial that has trained all that it was allowed to."""
        # A final fit has no score: nobody is left to validate on.
        if isnan(view.score_of(view.present)) and not view.is_final_fit:
            self._end_as(
                view, "failed", reason=f"validation {self._all_trials.task.metrics.objective.label} is not a number"
            )
        elif view.replica == 0 and view.number in self._scheduler.decisions.stopped:
            self._end_as(view, "stopped")
        elif seeds_of(view, self._all_trials, self._settings) == 1:
            self.complete(view)
        else:
            self._end_seed(view)

    def complete(self, view: TrialView) -> None:
        """End a trial that has used its whole budget on all of its seeds."""
        self._end_as(view, "complete")

    def _end_seed(self, view: TrialView) -> None:
        """The trial has used the budget on one of several seeds; the next one follows, or it is complete."""
        # The state of the first seed stays: its weights are the trial's.
        passing = view.checkpoint if view.replica > 0 else None
        self._happened(events.SeedEnded(at=self._now(), trial=view.number, metrics=view.present))
        if passing is not None:
            drop_state(self._location / passing)
        if view.replica < seeds_of(view, self._all_trials, self._settings):
            self._searcher.take_up([view.number])
        else:
            self.complete(view)
        if len(view.seeds) == SEEDS and is_power_baseline(view, self._all_trials, self._settings):
            print("\n".join(power_analysis_of(self._all_trials, self._settings)), flush=True)

    def close(self, reason: str) -> None:
        """Note that the driver leaves, and why if trials are unfinished."""
        self._happened(events.Closed(at=self._now(), reason=reason))
        self._remove_stray()
        self.write()

    def write(self) -> None:
        """Write the leaderboard as it stands."""
        began = time.monotonic()
        with_retry(lambda: write_leaderboard(self._all_trials, self._folder), path=self._folder)
        self._written_at, self._changed = time.monotonic(), False
        self._write_took_s = self._written_at - began

    def _happened(self, event: events.Event) -> None:
        """Tune swallows some errors and wraps others, so one is kept for the end of its step; nothing follows it."""
        if self._broken is None:
            try:
                self._state.happened(event)
            except InputError as error:
                self._broken = error
        self._changed = True

    def _end_as(self, view: TrialView, status: Literal["complete", "stopped", "failed"], reason: str = "") -> None:
        self._end(view, events.Ended(at=self._now(), trial=view.number, status=status, reason=reason))

    def _end(self, view: TrialView, event: events.Ended) -> None:
        self._happened(event)
        if self._broken is not None:
            return
        self._display.ended(view)
        # A worker that was lost between saving and telling has left a state that no event names.
        if view.attempts > 1 or self._settings.resources.workers > 1:
            self._with_strays.append(view)
        if self._settings.resources.workers == 1:
            self._remove_stray()
        self.drop_old_checkpoints()

    def _remove_stray(self) -> None:
        """Several workers may save once more until they are ended, so theirs goes when the next trial starts."""
        while self._with_strays:
            view = self._with_strays.pop()
            remove_stray_checkpoints(self._location / TRIALS / view.name, kept=view.states)

    def drop_old_checkpoints(self) -> None:
        """Delete the weights of trials that are over and not among the best."""
        quota = self._settings.limits.disk_gib
        for view in checkpoints_to_drop(self._all_trials, keep=self._settings.keep_checkpoints, disk_gib=quota):
            assert view.checkpoint is not None, "it has a saved state"
            with_retry(partial(drop_weights, self._location / view.checkpoint), path=self._location)
            self._happened(events.Dropped(at=self._now(), trial=view.number))

    def _view(self, trial: Trial) -> TrialView:
        return self._all_trials.trials[number_of(trial)]

    def _add_error(self, view: TrialView, text: str) -> None:
        with (self._folder_of(view) / ERROR).open("a", encoding="utf-8") as file:
            file.write(text)

    def _folder_of(self, view: TrialView) -> Path:
        folder = self._folder / TRIALS / view.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _now(self) -> float:
        return self._state.clock()


def unit_event(view: TrialView, result: dict[str, Any], *, at: float) -> events.Validated | events.Trained:
    """The event of a worker's report."""
    told = {name: result[name] for name in ("unit", "images", "seconds", "params_trained", "training")}
    told |= {"at": at, "trial": view.number, "replica": view.replica, "memory": result.get(MEMORY, 0)}
    if not result["evaluated"]:
        return events.Trained(**told)
    best = dict(result["best"])
    best_unit = int(best.pop("unit"))
    # Unit 0 is all that a strategy which trains nothing has.
    done = result["unit"] in (0, view.experiment.budget)
    return events.Validated(**told, done=done, metrics=result["metrics"], best=best, best_unit=best_unit)
