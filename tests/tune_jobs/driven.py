"""A sweep on made-up machines and a clock of our own, driven as Tune would."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from tests.tune_jobs.simulated import ROOM, settings
from tests.tune_jobs.simulation import Best, Clock, result
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import POLL_EVERY_S
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.trainable import MEMORY
from tune_jobs.lifecycle.build import SweepRun, build
from tune_jobs.state.events import Event
from tune_jobs.state.journal import FILE, read_journal

STALL_S = 60.0


@dataclass
class MadeUp(RayNodes):
    """Nodes as a test wants them."""

    trial_resources: TrialResources = ROOM
    num_places: int = 1
    waiting: int = 0
    names: tuple[str, ...] = ("m1", "m2")
    going: dict[str, float] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)
    room: dict[str, int] = field(default_factory=dict)
    told: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What workers tell of their first unit, by trial."""
    left: dict[str, int] = field(default_factory=dict)
    """Trials for which machines have been left room."""

    def at_a_time(self, allowed: Mapping[str, int]) -> int:
        return cluster.at_a_time(replace(ROOM, waiting=self.waiting), self.nodes(), allowed=allowed)

    def nodes(self) -> list[cluster.Node]:
        """Places are spread evenly, the first machine has what is left over."""
        each, more = divmod(self.num_places, len(self.names))
        return [
            cluster.Node(cpus=each + (more if place == 0 else 0), gpus=99, id=name)
            for place, name in enumerate(self.names)
        ]

    def places(self, node_id: str) -> int:
        return sum(cluster.places(ROOM, node) for node in self.nodes() if node.id == node_id)

    def memory(self) -> Mapping[str, int]:
        return self.room

    def hold(self, node_id: str, *, leave: int) -> None:
        self.left[node_id] = leave

    def release(self, node_id: str) -> None:
        del self.left[node_id]

    def can_run_trial(self, *, without: Collection[str]) -> bool:
        return cluster.fits(ROOM, [node for node in self.nodes() if node.id not in without]) > 0

    def leaving(self) -> dict[str, float]:
        return self.going

    def node_of(self, process: str) -> str:
        return process.partition("@")[2]

    def measured(self, config: dict[str, Any]) -> dict[str, Any] | None:
        return self.told.pop(config["number"], None)

    def end(self, actor: Any) -> None:
        self.ended.append(actor._actor_id.hex())

    def free(self, group: str) -> None:
        self.freed.append(group)

    def remove_abandoned(self) -> None:
        pass


class Sweep:
    """A session, driven as Tune would."""

    def __init__(self, ready: SweepRun, nodes: MadeUp, clock: Clock) -> None:
        self.ready, self.nodes, self.clock = ready, nodes, clock
        self.callback = ready.callback
        self.trials: list[Any] = []
        self.saves = 0

    def suggest(self) -> dict[str, Any] | str | None:
        return self.ready.searcher.suggest(f"attempt-{len(self.trials)}")

    def start(self, *, node_id: str = "m1") -> Any:
        config = self.suggest()
        assert isinstance(config, dict)
        name = f"actor-{len(self.trials)}@{node_id}"
        actor = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: name))
        trial = SimpleNamespace(
            trial_id=f"attempt-{len(self.trials)}",
            config=config,
            status=Trial.RUNNING,
            temporary_state=SimpleNamespace(ray_actor=actor),
            pickled_error_file=None,
            error_file=None,
        )
        self.trials.append(trial)
        self.callback.on_trial_start(trial=trial)
        return trial

    def report(self, trial: Any, unit: int, *, seconds: float = 2.0, memory: int = 0) -> dict[str, Any]:
        told = result(unit, 0.5, best=Best(0.5, 1), seconds=seconds) | {MEMORY: memory}
        self.callback.on_trial_result(trial=trial, result=told)
        return told

    def save(self, trial: Any) -> None:
        folder = (
            self.ready.folder
            / "trials"
            / trial.config["folder"]
            / f"checkpoint_{len(self.trials) - 1:03d}{self.saves:03d}"
        )
        folder.mkdir(parents=True)
        self.saves += 1
        self.callback.on_checkpoint(trial=trial, checkpoint=Checkpoint.from_directory(folder))

    def fail(self, trial: Any, error: Exception | None = None) -> None:
        """What Tune hands over when a trial's worker is gone, or has raised ``error``."""
        name = trial.temporary_state.ray_actor._actor_id.hex()
        path = self.ready.folder / "error.pkl"
        path.write_bytes(cloudpickle.dumps(error or RayActorError(actor_id=name, error_msg="The actor died.")))
        trial.pickled_error_file, trial.status = str(path), Trial.ERROR
        self.ready.scheduler.on_trial_error(None, trial)
        self.ready.searcher.on_trial_complete(trial.trial_id, error=True)
        trial.temporary_state.ray_actor = None
        self.callback.on_trial_error(trial=trial)

    def wait(self, seconds: float, *, step_s: float = POLL_EVERY_S) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + step_s)
            self.callback.on_step_end(trials=self.trials)

    def last(self) -> Event:
        return read_journal(self.ready.folder / FILE)[-1]


@contextmanager
def begun(storage: Path, nodes: MadeUp, trial_resources: TrialResources = ROOM) -> Iterator[Sweep]:
    folder, clock = storage / "simulated", Clock()
    folder.mkdir()
    swept = settings(storage, stall_minutes=STALL_S / 60, strategies=("linear_probe", "full"), retries=2)
    with build(swept, folder, trial_resources, stop_requested=lambda: False, nodes=nodes, clock=clock) as ready:
        found = Sweep(ready, nodes, clock)
        found.wait(2 * POLL_EVERY_S)
        yield found
