"""A sweep on simulated trials: the real searcher, early stopping, limits and records, in seconds and without Ray.

A trial is a curve of scores on a clock that jumps from one result to the next. Calls come in Tune's order.
"""

import heapq
import json
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune import Checkpoint
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.utils import flatten_dict

from handclip_core.evaluation.metrics import METRICS, RETENTION
from handclip_core.runs.drive import Report
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, LOG
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.lifecycle.build import SweepRun
from tune_jobs.state.trials import TRIALS
from tune_jobs.storage.location import StorageLocation, local_copy, location_of, open_location, parse_location

STATE = "state.json"
NAMES = tuple(metric.name for metric in METRICS)


@dataclass(frozen=True)
class Step:
    """What a simulated trial finds after a unit, and how long that takes."""

    score: float
    seconds: float = 60.0
    evaluated: bool = True


Curve = Callable[[Experiment, int], Step]
"""The step of an experiment's unit, counted from 1; raises what the trial is to raise."""


@dataclass
class Clock:
    """A clock that only the simulation moves."""

    now: float = 1e9

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


@dataclass(frozen=True)
class Machine:
    """Where simulated trials run."""

    curve: Curve
    concurrent: int = 1
    save_every: int = 1
    """Units between two saved states of a trial."""


class FixedNodes(RayNodes):
    """A cluster on which nothing ever changes."""

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        del allowed
        return self.trial_resources.concurrent

    def places(self, node_id: str) -> int:
        del node_id
        return self.trial_resources.concurrent * self.trial_resources.workers

    def memory(self) -> Mapping[str, int]:
        return {}

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        return not without

    def leaving(self) -> Mapping[str, float]:
        return {}

    def hold(self, node_id: str, *, leave: int) -> None:
        """Nothing to hold."""

    def release(self, node_id: str) -> None:
        """Nothing to let go of."""

    def node_of(self, process: str) -> str:
        del process
        return ""

    def measured(self, config: dict[str, Any]) -> None:
        """No worker tells how far it is."""

    def end(self, actor: Any) -> None:
        """Nothing to end."""

    def free(self, group: str) -> None:
        """Nothing to free."""

    def remove_abandoned(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class Best:
    """The best unit of a made-up trial."""

    score: float
    unit: int
    cmc1: float | None = None
    """That of the best unit if it is another than ``score``."""

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of that unit, and its number."""
        found = {**dict.fromkeys(NAMES, self.score), RETENTION: 1.0, "unit": self.unit}
        return found if self.cmc1 is None else {**found, "cmc1": self.cmc1}


def result(
    unit: int,
    score: float | None = None,
    *,
    best: Best | None = None,
    images: int | None = None,
    training: dict[str, float] | None = None,
    seconds: float = 2.0,
    params_trained: int = 10,
    done: bool = False,
) -> dict[str, Any]:
    """What a worker tells of a made-up unit; without a ``score`` it was not evaluated."""
    at = None if score is None else (best or Best(score, unit))
    report = Report(
        unit=unit,
        images=unit if images is None else images,
        phase="made up",
        evaluated=score is not None,
        metrics={} if score is None else {**dict.fromkeys(NAMES, score), RETENTION: 1.0},
        training=training or {},
        best={} if at is None else at.metrics,
        seconds=seconds,
        params_trained=params_trained,
        done=done,
    )
    return asdict(report)


@dataclass
class _Trial:
    """One attempt, with what scheduler and recorder read of one of Tune's trials."""

    trial_id: str
    config: dict[str, Any]
    folder: Path
    place: StorageLocation
    storage: SimpleNamespace = field(default_factory=SimpleNamespace)
    temporary_state: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(ray_actor=None))
    relative_logdir: str = ""
    pickled_error_file: str | None = None
    error_file: str | None = None

    def __post_init__(self) -> None:
        self.experiment = Experiment.model_validate(self.config["experiment"])
        self.state: dict[str, Any] = {"unit": 0, "best": -1.0, "at": 0}
        if self.config["checkpoint"]:
            with local_copy(parse_location(self.config["checkpoint"])) as saved:
                self.state = json.loads((saved / STATE).read_text())

    def step(self, step: Step) -> dict[str, Any]:
        """The result of the next unit."""
        self.state["unit"] += 1
        unit = self.state["unit"]
        if not step.evaluated:
            return result(unit, seconds=step.seconds)
        if not step.score <= self.state["best"]:
            self.state |= {"best": step.score, "at": unit}
        best = Best(self.state["best"], self.state["at"])
        return result(unit, step.score, best=best, seconds=step.seconds, done=unit == self.experiment.budget)

    def save(self) -> Checkpoint:
        """The trial's state in the sweep's folder."""
        self.storage.current_checkpoint_index += 1
        store = open_location(self.place / f"checkpoint_{self.storage.current_checkpoint_index:06d}")
        store.filesystem.create_dir(store.path)
        for name, text in {STATE: json.dumps(self.state), BEST: "simulated", LOG: "simulated"}.items():
            with store.filesystem.open_output_stream(f"{store.path}/{name}") as file:
                file.write(text.encode())
        return Checkpoint(store.path, store.filesystem)

    def fail(self, error: Exception) -> None:
        """Leave an error as Tune does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept, text = self.folder / ".error.pkl", self.folder / ".error.txt"
        kept.write_bytes(pickle.dumps(error))
        text.write_text(f"{type(error).__name__}: {error}\n")
        self.pickled_error_file, self.error_file = str(kept), str(text)


def simulate(session: SweepRun, node_id: Machine, clock: Clock) -> None:
    """Run the sweep of ``session`` to its end."""
    queue: list[tuple[float, int, _Trial, Step | Exception]] = []
    attempts = 0
    while True:
        while len(queue) < node_id.concurrent:
            trial = _next(session, f"attempt-{attempts}")
            if trial is None:
                break
            _push(queue, trial, node_id, clock, order=attempts)
            attempts += 1
        if not queue:
            return
        clock.now, order, trial, step = heapq.heappop(queue)
        if _goes_on(session, node_id, trial, step):
            _push(queue, trial, node_id, clock, order=order)
        session.callback.on_step_end()


def _next(session: SweepRun, trial_id: str) -> _Trial | None:
    config = session.searcher.suggest(trial_id)
    if config is None or config == Searcher.FINISHED:
        return None
    assert isinstance(config, dict)
    folder = session.folder / TRIALS / config["folder"]
    place = location_of(session.settings.storage, session.folder) / f"{TRIALS}/{config['folder']}"
    trial = _Trial(trial_id, config, folder, place)
    trial.storage.trial_dir_name = ""
    session.scheduler.on_trial_add(None, trial)
    session.callback.on_trial_start(trial=trial)
    return trial


def _push(queue: list[Any], trial: _Trial, node_id: Machine, clock: Clock, *, order: int) -> None:
    try:
        step: Step | Exception = node_id.curve(trial.experiment, trial.state["unit"] + 1)
    except Exception as error:
        step = error
    seconds = step.seconds if isinstance(step, Step) else 1.0
    heapq.heappush(queue, (clock.now + seconds, order, trial, step))


def _goes_on(session: SweepRun, node_id: Machine, trial: _Trial, step: Step | Exception) -> bool:
    if isinstance(step, Exception):
        trial.fail(step)
        session.searcher.on_trial_complete(trial.trial_id, error=True)
        session.callback.on_trial_error(trial=trial)
        return False
    told = trial.step(step)
    decision = (
        TrialScheduler.STOP if told["done"] else session.scheduler.on_trial_result(None, trial, flatten_dict(told))
    )
    stops = decision == TrialScheduler.STOP
    told["done"] = stops
    session.callback.on_trial_result(trial=trial, result=told)
    if stops or told["unit"] % node_id.save_every == 0:
        session.callback.on_checkpoint(trial=trial, checkpoint=trial.save())
    if stops:
        session.searcher.on_trial_complete(trial.trial_id)
        session.callback.on_trial_complete(trial=trial)
    return not stops
