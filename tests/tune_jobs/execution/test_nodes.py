"""Ray's nodes and processes as the driver sees them, on a made-up cluster."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from tests.tune_jobs.alone import ROOM
from tune_jobs.execution import cluster as module_of_cluster
from tune_jobs.execution import nodes as module
from tune_jobs.execution.cluster import Node
from tune_jobs.execution.nodes import NO_DEADLINE, RayNodes
from tune_jobs.execution.trainable import MEASURED, measured_key

SMALL, LARGE = Node(cpus=2, gpus=0, id="small"), Node(cpus=5, gpus=0, id="large", memory=7)
CONFIG = {"sweep": "/sweeps/a", "folder": "0003-full", "attempt": 1}


class Cluster:
    """What Ray would say, and what it was asked to hold and let go of."""

    def __init__(self) -> None:
        self.nodes = [SMALL, LARGE]
        self.draining: dict[str, int] = {}
        self.actors: dict[str, Any] = {}
        self.asked: list[str] = []
        self.held: list[str] = []
        self.told: dict[bytes, bytes] = {}

    def actor_table(self, process: str) -> Any:
        self.asked.append(process)
        return self.actors.get(process, {})

    def hold(self, _: object, node_id: str) -> str:
        self.held.append(node_id)
        return node_id

    def get(self, key: bytes, *, namespace: bytes) -> bytes | None:
        return self.told.get(namespace + key)

    def delete(self, key: bytes, *, namespace: bytes) -> None:
        del self.told[namespace + key]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    asked = SimpleNamespace(get_draining_nodes=lambda: found.draining, actor_table=found.actor_table)
    monkeypatch.setattr(module, "state", asked)
    monkeypatch.setattr(module_of_cluster, "nodes", lambda: found.nodes)
    monkeypatch.setattr(module_of_cluster, "hold", found.hold)
    monkeypatch.setattr(module, "remove_placement_group", lambda group: found.held.remove(group))
    store = SimpleNamespace(_internal_kv_get=found.get, _internal_kv_del=found.delete)
    monkeypatch.setattr(module, "internal_kv", store)
    return found


def test_a_node_has_as_many_places_as_trials_fit_and_none_if_it_is_gone(cluster: Cluster) -> None:
    nodes = RayNodes(replace(ROOM, cpus=2))
    assert [nodes.places(name) for name in ("small", "large", "gone")] == [1, 2, 0]
    assert nodes.at_a_time({}) == 3
    assert nodes.at_a_time({"large": 1}) == 2
    cluster.nodes = []
    assert nodes.places("small") == 0


def test_memory_that_nobody_knows_is_left_out(cluster: Cluster) -> None:
    del cluster
    assert RayNodes(ROOM).memory() == {"large": 7}


def test_whether_a_trial_can_run_elsewhere(cluster: Cluster) -> None:
    del cluster
    nodes = RayNodes(replace(ROOM, cpus=4))
    assert nodes.can_run_trial(without=["small"])
    assert not nodes.can_run_trial(without=["large"]), "it does not fit onto the small one"


def test_nodes_leave_when_ray_says_and_at_an_unknown_time_if_it_does_not(cluster: Cluster) -> None:
    cluster.draining = {"small": 1_700_000_000_500, "large": 0}
    assert RayNodes(ROOM).leaving() == {"small": 1_700_000_000.5, "large": NO_DEADLINE}


def test_places_are_held_but_for_those_of_the_trials_that_a_node_may_have(cluster: Cluster) -> None:
    nodes = RayNodes(ROOM)
    for leave, held in ((5, 0), (2, 3), (2, 3), (4, 1), (0, 5), (9, 0)):
        nodes.hold("large", leave=leave)
        assert cluster.held == ["large"] * held
    nodes.hold("large", leave=3)
    nodes.hold("small", leave=1)
    nodes.release("large")
    assert cluster.held == ["small"]
    nodes.release("never held")
    cluster.nodes = [LARGE]
    nodes.hold("small", leave=1)
    assert cluster.held == [], "a node that is gone has no place to hold"


def test_a_trial_of_several_workers_is_left_a_place_for_each(cluster: Cluster) -> None:
    RayNodes(replace(ROOM, workers=2)).hold("large", leave=1)
    assert cluster.held == ["large"] * 3


def test_where_a_process_runs_is_asked_until_it_is_known(cluster: Cluster) -> None:
    nodes = RayNodes(ROOM)
    assert nodes.node_of("p") == "", "Ray does not know of it yet"
    cluster.actors["p"] = {"Address": {"NodeID": ""}}
    assert nodes.node_of("p") == "", "it has been asked for, and has no node yet"
    cluster.actors["p"] = {"Address": {"NodeID": "small"}}
    assert [nodes.node_of("p") for _ in range(3)] == ["small"] * 3
    assert cluster.asked == ["p"] * 3
    cluster.actors.clear()
    assert nodes.node_of("p") == "small", "where it ran stays known"


def test_what_a_worker_told_is_heard_once(cluster: Cluster) -> None:
    nodes, key = RayNodes(ROOM), MEASURED + measured_key(CONFIG)
    assert nodes.measured(CONFIG) is None
    cluster.told[key] = b'{"images": 16, "left_s": 2.5}'
    assert nodes.measured(CONFIG | {"attempt": 2}) is None, "another attempt has told nothing"
    assert nodes.measured(CONFIG) == {"images": 16, "left_s": 2.5}
    assert nodes.measured(CONFIG) is None
    assert cluster.told == {}


@pytest.mark.parametrize(("workers", "times"), [(1, 0), (2, 1)])
def test_only_places_of_several_workers_can_be_left_behind(
    monkeypatch: pytest.MonkeyPatch, workers: int, times: int
) -> None:
    removed: list[None] = []
    monkeypatch.setattr(module, "remove_abandoned_groups", lambda: removed.append(None))
    RayNodes(replace(ROOM, workers=workers)).remove_abandoned()
    assert len(removed) == times


def test_a_process_and_the_workers_of_a_trial_are_ended_by_what_ray_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(ray, "kill", lambda actor: ended.append(("process", actor)))
    monkeypatch.setattr(module, "remove_group", lambda group: ended.append(("group", group)))
    nodes = RayNodes(ROOM)
    nodes.end("an actor")
    nodes.free("0a0b")
    assert ended == [("process", "an actor"), ("group", "0a0b")]
