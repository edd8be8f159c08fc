import os
import re
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import AuthenticationError, RpcError

from handclip_core.devices import Device
from handclip_core.errors import InputError
from tests.tune_jobs.scheduling.test_low_memory import TOLD
from tune_jobs.config.settings import Resources
from tune_jobs.execution import cluster as module
from tune_jobs.execution import ray_job
from tune_jobs.execution.cluster import (
    Node,
    at_a_time,
    bundles,
    connect,
    fit_trials,
    run_on_every_node,
    run_where_trials_run,
    trial_bundles,
    wait_for_node,
)
from tune_jobs.execution.nodes import RayNodes

CPU_ONLY = [Node(cpus=2, gpus=0)]
GPUS = [Node(cpus=16, gpus=2), Node(cpus=8, gpus=0)]


def test_tune_reserves_the_place_of_one_worker_and_leaves_those_of_several_to_ray_train() -> None:
    alone = fit_trials(Resources(cpus=2), [Node(cpus=4, gpus=0)])
    assert trial_bundles(alone) == [{"CPU": 2.0}]
    assert trial_bundles(replace(alone, workers=2)) == [{"memory": 1.0}]


@pytest.mark.parametrize(
    ("resources", "cluster", "device", "gpus", "concurrent"),
    [
        (Resources(), CPU_ONLY, "cpu", 0, 2),
        (Resources(cpus=2), CPU_ONLY, "cpu", 0, 1),
        (Resources(concurrent=1), CPU_ONLY, "cpu", 0, 1),
        (Resources(concurrent=64), CPU_ONLY, "cpu", 0, 2),
        (Resources(cpus=3), [Node(4, 0), Node(5, 0)], "cpu", 0, 2),
        (Resources(), GPUS, "cuda", 1, 2),
        (Resources(gpus=0.5), GPUS, "cuda", 0.5, 4),
        (Resources(gpus=0.4), GPUS, "cuda", 0.4, 4),
        (Resources(gpus=0.1), GPUS, "cuda", 0.1, 16),
        (Resources(gpus=2), GPUS, "cuda", 2, 1),
        (Resources(cpus=16, gpus=1), GPUS, "cuda", 1, 1),
        (Resources(device=Device.CPU, cpus=4), GPUS, "cpu", 0, 6),
        (Resources(device=Device.CUDA), GPUS, "cuda", 1, 2),
    ],
)
def test_trials_at_a_time_are_those_that_fit(
    resources: Resources, cluster: list[Node], device: str, gpus: float, concurrent: int
) -> None:
    trial_resources = fit_trials(resources, cluster)
    assert (trial_resources.device, trial_resources.gpus, trial_resources.concurrent) == (device, gpus, concurrent)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="'cuda' was asked for, but the cluster has no GPU"):
        fit_trials(Resources(device=Device.CUDA), CPU_ONLY)


@pytest.mark.parametrize(
    ("resources", "cluster"), [(Resources(cpus=3), CPU_ONLY), (Resources(gpus=4), GPUS), (Resources(), [])]
)
def test_a_trial_that_fits_nowhere_is_refused_with_what_there_is(resources: Resources, cluster: list[Node]) -> None:
    largest = max((node.cpus for node in cluster), default=0)
    with pytest.raises(InputError, match=f"the largest node has {largest:g} CPUs and .* set resources.cpus"):
        fit_trials(resources, cluster)


def test_on_one_machine_data_are_prepared_in_this_process_if_it_has_no_forks() -> None:
    here: list[tuple[str, str]] = []
    run_on_every_node(fit_trials(Resources(), CPU_ONLY), lambda *told: here.append(told), "prepared")
    assert here == [("prepared", "cpu")]


@pytest.mark.parametrize(
    ("resources", "nodes", "wanted"),
    [
        (Resources(), 3, 6),
        (Resources(concurrent=5), 3, 5),
        (Resources(cpus=2), 3, 3),
        (Resources(workers=2), 3, 3),
        (Resources(waiting=2), 3, 8),
        (Resources(waiting=2, concurrent=7), 3, 7),
        (Resources(), 0, 1),
    ],
)
def test_trials_at_a_time_follow_the_machines_that_are_there(resources: Resources, nodes: int, wanted: int) -> None:
    trial_resources = fit_trials(resources, CPU_ONLY)
    assert at_a_time(trial_resources, [Node(cpus=2, gpus=0)] * nodes) == wanted


@pytest.mark.parametrize(
    ("allowed", "wanted"),
    [({}, 6), ({"a": 1}, 5), ({"a": 0, "b": 1}, 3), ({"a": 9}, 6), ({"a": 0, "b": 0, "c": 0}, 0), ({"gone": 0}, 6)],
)
def test_a_machine_has_no_more_trials_than_it_may_have(allowed: dict[str, int], wanted: int) -> None:
    nodes = [Node(cpus=2, gpus=0, id=name) for name in "abc"]
    assert at_a_time(fit_trials(Resources(), nodes), nodes, allowed=allowed) == wanted
    many = fit_trials(Resources(workers=2), nodes)
    assert at_a_time(many, nodes, allowed={"a": 1, "b": 1}) == 3
    assert at_a_time(replace(many, waiting=2), nodes, allowed={"a": 0, "b": 0, "c": 0}) == 2


def test_ray_that_does_not_start_in_time_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because some of the raylet ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(InputError, match=r"^Ray did not start on this machine in time; "):
        connect()


def never(**_: object) -> None:
    """Stands for a function of Ray that is not to be called."""
    raise AssertionError("Ray was asked")


@pytest.mark.parametrize(
    ("raised", "said"),
    [(AuthenticationError("no token"), "wants a token, .*; set"), (RpcError("none"), "are RAY_AUTH_MODE and")],
)
def test_a_cluster_that_does_not_take_this_driver_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    def ask(*_: object, **__: object) -> None:
        raise raised

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", never)
        monkeypatch.setattr(ray_job, "InnerGcsClient", SimpleNamespace(standalone=ask))
        with pytest.raises(InputError, match=f"^RAY_ADDRESS={address}: .*{said}"):
            connect()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379", "127.0.0.1:99999"]
)
def test_an_address_that_nothing_answers_at_is_not_asked_for_long(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", never)
    with pytest.raises(InputError, match=f"^RAY_ADDRESS={address}: nothing answers there "):
        connect()


@pytest.mark.ray
def test_a_first_machine_is_waited_for_where_trials_may_wait_and_not_for_ever(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del ray_cluster
    monkeypatch.setattr(module, "FIRST_NODE_S", 1.0)
    wait_for_node(Resources(cpus=64))
    wait_for_node(Resources(cpus=2, waiting=1))
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match=r"no node with room for a trial \(64 CPUs and 0 GPUs\) has joined"):
        wait_for_node(Resources(cpus=64, waiting=1))
    assert capsys.readouterr().out.startswith("no node has room for a trial yet; waiting")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ray.exceptions.WorkerCrashedError(), "The worker died unexpectedly"),
        (ray.exceptions.OutOfMemoryError(TOLD), "node low on memory (3.1 of 23.5 GiB used, 3.0 allowed"),
    ],
)
def test_a_task_whose_machine_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: ray.exceptions.RayError, reason: str
) -> None:
    def lost(_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", lost)
    with pytest.raises(InputError, match=rf"the node of a task beside the trials failed \({re.escape(reason)}"):
        module._get(None)


@pytest.mark.ray
def test_a_machine_that_is_held_gets_nothing_until_it_is_released_and_work_beside_the_trials_has_no_choice(
    ray_cluster: None,
) -> None:
    del ray_cluster
    (node,) = module.nodes()
    trial_resources = replace(fit_trials(Resources(), [node]), num_nodes=2, excluded_nodes=(node.id,))
    assert run_where_trials_run(trial_resources, os.path.join, "a") == "a/cpu"
    nodes = RayNodes(trial_resources)
    nodes.hold(node.id, leave=0)
    place = ray.util.placement_group(bundles(cpus=1, gpus=0.0, workers=1))
    try:
        assert not place.wait(3)
        assert not nodes.can_run_trial(without=[node.id])
        nodes.hold(node.id, leave=1)
        assert place.wait(30)
        nodes.hold(node.id, leave=2)
        assert nodes._held[node.id] == []
        nodes.release(node.id)
    finally:
        nodes.release(node.id)
        ray.util.remove_placement_group(place)
