"""Workers that Ray kills for the memory of their node, for real, and other errors that are no actor's."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.air.execution.resources import PlacementGroupResourceManager, ResourceRequest
from ray.exceptions import RayActorError, RayTaskError

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tests.tune_jobs.conftest import start_ray
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings
from tune_jobs.execution import searcher as session
from tune_jobs.execution import tune_run
from tune_jobs.execution.failures import kind_of
from tune_jobs.execution.trainable import HandTrial, trial_config
from tune_jobs.execution.tune_internals import SurvivingActorManager
from tune_jobs.lifecycle import run as driver
from tune_jobs.scheduling.low_memory import read_low_memory
from tune_jobs.scheduling.retries import FailureKind
from tune_jobs.state.events import Moved
from tune_jobs.state.journal import FILE, read_journal

GIB = 2**30
SPARE_GIB, MOST_GIB = 4, 10
"""Memory that the node may use before Ray kills, and that a greedy worker takes if it does not."""


def memory_gib() -> tuple[float, float]:
    """The whole memory of this machine, and what is left of it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {name: float(rest.split()[0]) / 2**20 for name, _, rest in (line.partition(":") for line in lines)}
    return found["MemTotal"], found["MemAvailable"]


@pytest.fixture(scope="module")
def short_cluster(ray_folder: str, worker_python: str) -> Iterator[None]:
    """A machine whose memory monitor kills when a few GiB more than now are in use."""
    total, available = memory_gib()
    if available < MOST_GIB + 2:
        pytest.skip(f"{MOST_GIB + 2} GiB of free memory are needed")
    threshold = (total - available + SPARE_GIB) / total
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.shutdown()
    start_ray(
        ray_folder,
        worker_python,
        _system_config={"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100},
    )
    yield
    ray.shutdown()


class Greedy(HandTrial):
    """Takes more memory than there is: the first trial's worker as it begins, the second's after its first unit."""

    def setup(self, config: dict[str, Any]) -> None:
        self.take_once(config, number=0)
        super().setup(config)

    def step(self) -> dict[str, Any]:
        if self._last is not None:
            self.take_once(self.config, number=1)
        return super().step()

    def take_once(self, config: dict[str, Any], *, number: int) -> None:
        marker = Path(config["marks"]) / str(number)
        if config["number"] == number and not marker.exists():
            marker.touch()
            take_all()


def take_all() -> None:
    held = []
    for _ in range(4 * MOST_GIB):
        held.append(bytearray(b"\1") * (GIB // 4))
        time.sleep(0.02)
    time.sleep(60)


class NeverReadable:
    """A result that only the worker can make."""

    def __reduce__(self) -> Any:
        return _fail, ()


def _fail() -> None:
    raise AttributeError("no such class here")


class Worker:
    """Takes more memory than there is, when it is told to."""

    def __init__(self, *, greedy: bool = False) -> None:
        if greedy:
            take_all()

    def take(self) -> None:
        take_all()

    def take_later(self) -> None:
        threading.Thread(target=take_all, daemon=True).start()

    def answer(self) -> int:
        return 42

    def answer_in_vain(self) -> NeverReadable:
        return NeverReadable()

    def fail(self) -> None:
        raise ValueError("of its own")


class Managed:
    """One actor under the manager, and what has become of it."""

    def __init__(self, **known: Any) -> None:
        self.manager = SurvivingActorManager(PlacementGroupResourceManager())
        self.started, self.results = False, list[Any]()
        self.errors: list[Exception] = []
        self.actor = self.manager.add_actor(
            Worker, known, ResourceRequest([{"CPU": 1}]), on_start=self._start, on_error=self._note
        )

    def _start(self, _: Any) -> None:
        self.started = True

    def _note(self, _: Any, error: Exception) -> None:
        self.errors.append(error)

    def call(self, method: str) -> None:
        self.manager.schedule_actor_task(
            self.actor, method, on_result=lambda _, result: self.results.append(result), on_error=self._note
        )

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.manager.next(timeout=0.1)

    def handle(self) -> Any:
        return self.manager._live_actors_to_ray_actors_resources[self.actor][0]

    def end(self) -> None:
        self.manager.cleanup()


@pytest.fixture
def managed(short_cluster: None) -> Iterator[Managed]:
    del short_cluster
    found = Managed()
    found.until(lambda: found.started)
    yield found
    found.end()


def answer_for_ever(actor: Any) -> None:
    while True:
        ray.get(actor.answer.remote())
        time.sleep(0.1)


def assert_lost_for_memory(found: Managed) -> None:
    """The manager has heard of the actor's end, as that of an actor, and would hand out no task of it any more."""
    error = found.errors[0]
    assert isinstance(error, RayActorError)
    assert kind_of(error) is FailureKind.LOW_MEMORY
    told = read_low_memory(str(error), actor=error.actor_id)
    assert told.node == ray.nodes()[0]["NodeID"]
    assert told.wanted_gib is not None
    assert told.wanted_gib > 0.5
    assert found.manager.num_live_actors == 0


@pytest.mark.ray
@pytest.mark.faults
def test_a_worker_killed_amid_a_task_is_a_lost_actor(managed: Managed) -> None:
    managed.call("take")
    managed.until(lambda: bool(managed.errors))
    assert_lost_for_memory(managed)


@pytest.mark.faults
@pytest.mark.ray
def test_a_worker_killed_between_two_tasks_is_a_lost_actor(managed: Managed) -> None:
    managed.call("take_later")
    managed.until(lambda: bool(managed.results))
    with pytest.raises(ray.exceptions.RayError):
        answer_for_ever(managed.handle())
    managed.call("answer")
    managed.until(lambda: bool(managed.errors))
    assert_lost_for_memory(managed)


@pytest.mark.faults
@pytest.mark.ray
def test_a_worker_killed_in_its_constructor_is_a_lost_actor(short_cluster: None) -> None:
    del short_cluster
    found = Managed(greedy=True)
    found.until(lambda: bool(found.errors))
    assert not found.started
    assert_lost_for_memory(found)
    found.end()


@pytest.mark.ray
def test_a_result_that_cannot_be_read_is_a_lost_actor_and_its_process_is_ended(managed: Managed) -> None:
    handle = managed.handle()
    managed.call("answer_in_vain")
    managed.until(lambda: bool(managed.errors))
    assert isinstance(managed.errors[0], RayActorError)
    assert "no such class here" in str(managed.errors[0])
    with pytest.raises(RayActorError):
        ray.get(handle.answer.remote())


@pytest.mark.ray
def test_an_error_of_a_task_leaves_the_actor_alone(managed: Managed) -> None:
    managed.call("fail")
    managed.until(lambda: bool(managed.errors))
    assert isinstance(managed.errors[0], RayTaskError)
    managed.call("answer")
    managed.until(lambda: managed.results == [42])


@pytest.mark.ray
def test_a_sweep_outlives_kills_uses_up_no_retries_and_ends_as_one_left_in_peace(
    short_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del short_cluster
    swept = SweepSettings(
        name="short",
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("linear_probe", "full"),
        trials=4,
        budget=3,
        early_stopping=EarlyStopping(grace=1),
        resources=Resources(concurrent=1),
        checkpoint_every_s=0.0,
        retries=0,
        storage=tmp_path / "calm",
    )
    calm = driver.sweep(swept)
    with monkeypatch.context() as patch:
        patch.setattr(tune_run, "HandTrial", Greedy)
        patch.setattr(session, "trial_config", lambda *a, **k: trial_config(*a, **k) | {"marks": str(tmp_path)})
        disturbed = driver.sweep(swept.model_copy(update={"storage": tmp_path / "disturbed"}))
    assert disturbed.exit_code == 0
    assert scores(disturbed) == scores(calm)
    moved = [event for event in read_journal(disturbed.folder / FILE) if isinstance(event, Moved)]
    assert {0, 1} <= {event.trial for event in moved}
    assert all(event.reason.startswith("node low on memory (") for event in moved)
    assert disturbed.all_trials.trials[1].attempts >= 2
    said = capsys.readouterr().out
    assert "trial 0 goes on later: node low on memory (" in said


def scores(outcome: driver.Outcome) -> list[Any]:
    return [(r.number, r.params, r.status, r.curve, r.score, r.unit) for r in outcome.all_trials.all()]
