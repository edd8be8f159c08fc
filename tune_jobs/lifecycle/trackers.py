"""Runs of MLflow and of Weights & Biases: one a trial, written when the trial is over."""

import hashlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from handclip_core.errors import InputError
from tune_jobs.config.settings import Tracking
from tune_jobs.state.events import Ended, Event, Trained, TrialEvent, Validated
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

WANDB_FOLDER = "wandb"
"""Below the sweep's folder."""
MILLISECONDS = 1000
QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""By itself MLflow tries for minutes, and the sweep would wait."""


Unit = Validated | Trained


@dataclass(frozen=True)
class TrialRun:
    """A trial that is over, with the ``units`` of its first seed, in their order."""

    view: TrialView
    units: Sequence[Unit]

    @property
    def params(self) -> dict[str, str]:
        """What it tried, as texts."""
        view = self.view
        told = {"strategy": view.strategy} | ({"backbone": view.backbone} if view.backbone else {})
        return told | {name: str(value) for name, value in view.params.items() if value is not None}

    @property
    def best(self) -> dict[str, float]:
        """The metrics of its best weights that are numbers."""
        return {f"best_{name}": value for name, value in _finite(self.view.metrics).items()}

    def figures(self) -> list[tuple[Unit, dict[str, float]]]:
        """Metrics, losses and rates of each unit that are numbers."""
        told = [(unit, (unit.metrics if isinstance(unit, Validated) else {}) | unit.training) for unit in self.units]
        return [(unit, _finite(values | {"images": unit.images})) for unit, values in told]


class Tracker(Protocol):
    """Where runs go."""

    name: str

    def write(self, run: TrialRun) -> None:
        """Write a run in the place of what is there of it."""

    def close(self) -> None:
        """Complete what was written."""


class MlflowTracker:
    """Runs in the experiment of the sweep's name, told apart by tags from those of another sweep of that name."""

    name = "mlflow"

    def __init__(self, uri: str, *, sweep: str, place: str) -> None:
        for variable, value in QUICK.items():
            os.environ.setdefault(variable, value)
        from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

        self._client, self._place = MlflowClient(tracking_uri=uri), place
        known = self._client.get_experiment_by_name(sweep)
        self._experiment = known.experiment_id if known else self._client.create_experiment(sweep)

    def write(self, run: TrialRun) -> None:
        """As ``Tracker``."""
        from mlflow.entities import Metric, Param  # type: ignore[import-not-found]

        view = run.view
        tags = {"handclip.sweep": self._place, "handclip.trial": str(view.number), "handclip.status": str(view.status)}
        asked = f"tags.`handclip.sweep` = '{self._place}' and tags.`handclip.trial` = '{view.number}'"
        for old in self._client.search_runs([self._experiment], filter_string=asked):
            self._client.delete_run(old.info.run_id)
        # A trial that was taken over from another sweep has no start of its own.
        started, last = (int(at * MILLISECONDS) for at in (view.started_at or view.ended_at, view.ended_at))
        made = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=view.name).info.run_id
        metrics = [
            Metric(name, value, int(unit.at * MILLISECONDS), unit.unit)
            for unit, values in run.figures()
            for name, value in values.items()
        ]
        metrics += [Metric(name, value, last, 0) for name, value in run.best.items()]
        params = [Param(name, value) for name, value in run.params.items()]
        # So many parameters MLflow takes at a time; of metrics it would take more.
        for start in range(0, max(len(metrics), len(params)), 100):
            part = slice(start, start + 100)
            self._client.log_batch(made, metrics=metrics[part], params=params[part])
        self._client.set_terminated(made, "FAILED" if view.status is Status.FAILED else "FINISHED", end_time=last)

    def close(self) -> None:
        """Nothing is open."""


class WandbTracker:
    """Runs of the project of the sweep's name; offline ones lie in the sweep's folder, for ``wandb sync``."""

    name = "wandb"

    def __init__(self, mode: str, *, sweep: str, place: str, folder: Path) -> None:
        self._mode, self._sweep, self._folder = mode, sweep, folder
        self._hash = hashlib.sha256(place.encode()).hexdigest()[:8]

    def write(self, run: TrialRun) -> None:
        """As ``Tracker``."""
        import wandb  # type: ignore[import-not-found]

        number = f"{self._hash}-{run.view.number}"
        for old in (self._folder / WANDB_FOLDER).glob(f"offline-run-*-{number}"):
            shutil.rmtree(old)
        self._folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(
            project=self._sweep,
            id=number,
            name=run.view.name,
            dir=str(self._folder),
            mode=self._mode,
            config=run.params,
            tags=[str(run.view.status)],
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
        ) as made:
            for unit, values in run.figures():
                made.log(values, step=unit.unit)
            made.summary.update(run.best)

    def close(self) -> None:
        """End the process that writes."""
        if (wandb := sys.modules.get("wandb")) is not None:
            wandb.teardown()


class Trackers:
    """Follows a sweep's events, and hands each trial over once it is over. What cannot be written is said once."""

    def __init__(self, tracking: Tracking, *, sweep: str, place: str, folder: Path) -> None:
        self._tracking, self._sweep, self._place, self._folder = tracking, sweep, place, folder
        self._trackers: list[Tracker] | None = None
        self._units: dict[int, list[Unit]] = {}

    def open(self, events: Sequence[Event], all_trials: Trials, *, everything: bool) -> None:
        """Take note of ``events``; trials among them that are over are written if ``everything`` is wanted anew."""
        for event in events:
            self.happened(event, all_trials, written=not everything)

    def close(self) -> None:
        """Complete what was written."""
        for tracker in list(self._trackers or ()):
            self._try(tracker, tracker.close)

    def happened(self, event: Event, all_trials: Trials, *, written: bool = False) -> None:
        """Follow one event, of whose trial the run is there already if it is ``written``."""
        if not self._tracking.on or not isinstance(event, TrialEvent):
            return
        if isinstance(event, Ended):
            run = TrialRun(all_trials.trials[event.trial], self._units.pop(event.trial, []))
            for tracker in () if written else self._opened():
                self._try(tracker, partial(tracker.write, run))
        elif isinstance(event, Validated | Trained) and event.replica == 0:
            known = self._units.setdefault(event.trial, [])
            if not known or event.unit > known[-1].unit:  # a unit that is trained again is the same
                known.append(event)

    def _opened(self) -> list[Tracker]:
        if self._trackers is None:
            self._trackers = []
            if self._tracking.wandb is not None:
                folder = self._folder
                self._trackers.append(
                    WandbTracker(self._tracking.wandb, sweep=self._sweep, place=self._place, folder=folder)
                )
            if self._tracking.mlflow is not None:
                try:
                    self._trackers.append(MlflowTracker(self._tracking.mlflow, sweep=self._sweep, place=self._place))
                except Exception as error:  # whatever a server, a database or a library says: the sweep goes on
                    _tell(MlflowTracker.name, error)
        return list(self._trackers)

    def _try(self, tracker: Tracker, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            assert self._trackers is not None
            self._trackers.remove(tracker)
            _tell(tracker.name, error)


def refuse_missing(tracking: Tracking) -> None:
    """Raise InputError if a tracker that is wanted is not installed."""
    for name, wanted in (("mlflow", tracking.mlflow), ("wandb", tracking.wandb)):
        if wanted and find_spec(name) is None:
            raise InputError(f"tracking.{name}: the package is not installed; `pip install {name}`, or leave it out")


def _tell(name: str, error: Exception) -> None:
    reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
    print(f"{name}: cannot be written ({reason}); the sweep goes on, and --export writes it all", flush=True)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
