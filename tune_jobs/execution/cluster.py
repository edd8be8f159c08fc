"""The Ray cluster that a sweep runs on: joined if there is one, else started on this host alone."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray._private.state import state
from ray.exceptions import AuthenticationError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from handclip_core.devices import Device
from handclip_core.errors import InputError
from handclip_core.paths import refusal
from handclip_core.scratch import claim, remove_left
from handclip_core.signals import ended_at_once
from handclip_core.warm_python import begin_to_call_warm, call_warm, warm_python
from tune_jobs.config.settings import Resources
from tune_jobs.execution.ray_job import not_joined, refuse_silence
from tune_jobs.execution.signals import signals_are_the_drivers, sigterm_stays_the_drivers
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory

Value = TypeVar("Value")
OBJECT_STORE_BYTES = 128 * 2**20
"""Trials exchange numbers alone, so a local cluster needs next to no shared memory."""

TUNE_ENVIRONMENT = {
    # The callback writes what is to be written.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Relative paths mean the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # The driver catches signals itself, and SIGTERM too.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The display says what there is to say.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Nothing is read from Tune's own snapshots, so one at the beginning and one at the end are enough.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
}

NODE_LABEL = "ray.io/node-id"
"""The label by which Ray knows each node."""
TIMED_OUT = "timed out during startup"
"""How Ray says it of its own processes."""
FIRST_NODE_S = 1200.0
"""Seconds within which an autoscaler has to bring the first node."""

_started: list[str] = []
"""Addresses of the clusters that this process started."""


@dataclass(frozen=True)
class Node:
    """What a node of the cluster offers; ``id`` is Ray's name of it, ``memory`` in bytes, 0 if nobody says."""

    cpus: float
    gpus: float
    id: str = ""
    memory: int = 0


class WorkerError(Exception):
    """A process was lost, or what it ran has raised."""


@dataclass(frozen=True)
class TrialResources:
    """What each trial gets on this cluster, and how many of them run at a time."""

    device: str
    cpus: int
    gpus: float
    concurrent: int
    num_nodes: int
    workers: int = 1
    most: int | None = None
    """Most trials at a time, however large the cluster gets."""
    waiting: int = 0
    """Trials that are to wait for nodes, beside those that have one."""
    excluded_nodes: tuple[str, ...] = ()
    """Nodes that tasks beside the trials avoid, if there are others."""


def connect() -> None:
    """Join the cluster at ``RAY_ADDRESS``, which a Ray job sets; else start one on this host. Quiet either way."""
    os.environ.update(TUNE_ENVIRONMENT)
    # Nothing is sent to Ray's makers unless the user wants it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        refuse_silence(address)
        try:
            with ended_at_once(), signals_are_the_drivers():
                ray.init(**quiet)
        except (AuthenticationError, ConnectionError) as error:
            raise not_joined(address, error) from None
        return
    try:  # interrupted amid its start Ray dumps its core; nothing has been written yet
        with ended_at_once(), signals_are_the_drivers():
            started = ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                runtime_env={"py_executable": python} if (python := warm_python()) else None,
                **quiet,
            )
        _started.append(ray.get_runtime_context().gcs_address)
        session = Path(started.address_info["session_dir"])
        # The next driver on this machine removes what one that was killed has left of its session.
        claim(session)
        remove_left(session.parent.glob("session_*"))
    except Exception as error:  # Ray raises no narrower one
        if TIMED_OUT not in str(error):
            raise
        end()
        raise InputError("Ray did not start on this machine in time; begin again when it is less busy") from None


def end_meanwhile() -> bool:
    """Begin to end the cluster, if ``connect`` started it, beside what is left to do; one that was joined stays.

    Most of Ray's end is waiting. The process does not end before it. Returns whether the cluster ends.
    """
    ends = ray.is_initialized() and ray.get_runtime_context().gcs_address in _started
    if ends:
        threading.Thread(target=end, name="end of Ray").start()
    return ends


def end() -> None:
    """Leave the cluster, which ends if ``connect`` started it, and remove what killed workers left on this machine."""
    with sigterm_stays_the_drivers():
        ray.shutdown()
    remove_left()


def nodes() -> list[Node]:
    """The nodes of the cluster that are alive, but those that are about to go."""
    leaving = state.get_draining_nodes()
    alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    return [
        Node(
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node["NodeID"],
            int(node["Resources"].get("memory", 0)),
        )
        for node in alive
    ]


def fit_trials(resources: Resources, cluster: Sequence[Node]) -> TrialResources:
    """Fit trials onto ``cluster``; raises InputError if not a single one fits."""
    most_cpus = max((node.cpus for node in cluster), default=0)
    most_gpus = max((node.gpus for node in cluster), default=0)
    if resources.device is Device.CUDA and not most_gpus:
        raise InputError("resources.device: 'cuda' was asked for, but the cluster has no GPU; use 'cpu' or 'auto'")
    gpus = resources.gpus if most_gpus and resources.device is not Device.CPU else 0.0
    fit = sum(_fit(node, resources.cpus, gpus) for node in cluster)
    asked = f"{resources.cpus} CPUs and {gpus:g} GPUs"
    if fit == 0:
        raise InputError(
            f"resources: a trial asks for {asked}, but the largest node has {most_cpus:g} CPUs and {most_gpus:g} "
            "GPUs; set resources.cpus or resources.gpus lower"
        )
    concurrent = fit // resources.workers
    if concurrent == 0:
        raise InputError(
            f"resources.workers: a trial asks for {resources.workers} processes, but the cluster has room for {fit} of "
            f"{asked} each"
        )
    return TrialResources(
        device=Device.CUDA if gpus else Device.CPU,
        cpus=resources.cpus,
        gpus=gpus,
        concurrent=min(concurrent, resources.concurrent or concurrent),
        num_nodes=len(cluster),
        workers=resources.workers,
        most=resources.concurrent,
        waiting=resources.waiting,
    )


def at_a_time(
    trial_resources: TrialResources, cluster: Sequence[Node], *, allowed: Mapping[str, int] | None = None
) -> int:
    """Trials that may be under way on ``cluster``, and those that wait for nodes.

    A node has no more than are ``allowed`` there, if that is said. At least 1 in all, unless one may have none.
    """
    limits = {node.id: (allowed or {})[node.id] for node in cluster if node.id in (allowed or {})}
    free = fits(trial_resources, [node for node in cluster if node.id not in limits])
    fit = min(fits(trial_resources, cluster), free + sum(limits.values())) + trial_resources.waiting
    return max(int(0 not in limits.values()), fit if trial_resources.most is None else min(fit, trial_resources.most))


def fits(trial_resources: TrialResources, cluster: Sequence[Node]) -> int:
    """Trials that ``cluster`` has a place for, taken or free."""
    return sum(places(trial_resources, node) for node in cluster) // trial_resources.workers


def places(trial_resources: TrialResources, node: Node) -> int:
    """Processes of trials that ``node`` has a place for, taken or free."""
    return _fit(node, trial_resources.cpus, trial_resources.gpus)


def _fit(node: Node, cpus: int, gpus: float) -> int:
    by_cpu = int(node.cpus // cpus)
    if not gpus:
        return by_cpu
    # A fraction of a GPU never spans two of them.
    return min(by_cpu, int(node.gpus // gpus) if gpus >= 1 else int(node.gpus) * int(1 / gpus + 1e-9))


def bundles(*, cpus: int, gpus: float, workers: int) -> list[dict[str, float]]:
    """A trial's resources in Ray's words, one entry a process."""
    return [{"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})] * workers


def trial_bundles(trial_resources: TrialResources) -> list[dict[str, float]]:
    """What Tune reserves for a trial: its worker; of several, next to nothing, for Ray Train reserves their places."""
    if trial_resources.workers == 1:
        return bundles(cpus=trial_resources.cpus, gpus=trial_resources.gpus, workers=1)
    # A byte, for Tune wants something; a part of a CPU would leave workers that want all CPUs of a node without place.
    return [{"memory": 1.0}]


def hold(trial_resources: TrialResources, node_id: str) -> PlacementGroup:
    """Ask for a place that a node has for a process of a trial, so that Ray gives it to nothing else."""
    place = bundles(cpus=trial_resources.cpus, gpus=trial_resources.gpus, workers=1)
    return ray.util.placement_group(place, bundle_label_selector=[{NODE_LABEL: node_id}])


def wait_for_node(resources: Resources) -> None:
    """On a cluster that adds nodes when trials wait, wait for the first; raises InputError if none comes in time."""
    gpus = resources.gpus if resources.device is Device.CUDA else 0.0
    if resources.waiting == 0 or sum(_fit(node, resources.cpus, gpus) for node in nodes()) >= resources.workers:
        return
    print(f"no node has room for a trial yet; waiting {FIRST_NODE_S / 60:.0f} minutes for one", flush=True)
    # An autoscaler adds nodes for what waits, so a place is asked for, and given back once it is there.
    group = ray.util.placement_group(bundles(cpus=resources.cpus, gpus=gpus, workers=resources.workers))
    try:
        if not group.wait(FIRST_NODE_S):
            raise InputError(
                f"resources: no node with room for a trial ({resources.cpus} CPUs and {gpus:g} GPUs) has joined "
                f"within {FIRST_NODE_S / 60:.0f} minutes; see why the autoscaler adds none, or set resources lower"
            )
    finally:
        ray.util.remove_placement_group(group)


def run_where_trials_run(trial_resources: TrialResources, function: Callable[..., Value], *args: Any) -> Value:
    """Call ``function`` as a task on a trial's resources, so that this process need not import what it needs.

    Its last argument is the device of trials. Without a cluster, as simulated sweeps are, it runs in this process.
    Raises InputError if the function does, or its node fails.
    """
    if not ray.is_initialized():
        return function(*args, trial_resources.device)
    options: dict[str, Any] = {}
    if trial_resources.excluded_nodes:
        options["label_selector"] = {NODE_LABEL: f"!in({','.join(trial_resources.excluded_nodes)})"}
        # If no other node has a place, one that is avoided is better than none.
        options["fallback_strategy"] = [{"label_selector": {}}]
    value: Value = _get(_task(trial_resources, function, **options).remote(*args, trial_resources.device))
    return value


def caller_after_trials(trial_resources: TrialResources, *, more: bool) -> tuple[Callable[..., Any], int]:
    """What calls a function of texts where trials ran, when there are no more of them, with their device at the end.

    And how many threads the function may use. Unless ``more`` is to be done on it, a cluster that this process started
    ends meanwhile, and a fork of the workers' server takes its place, which has the processors of all trials. The
    caller raises InputError if the function does, and WorkerError if its process is lost.
    """
    if more or warm_python() is None or not end_meanwhile():
        return partial(run_where_trials_run, trial_resources), trial_resources.cpus
    return partial(_call_in_fork, trial_resources), trial_resources.cpus * trial_resources.concurrent


def _call_in_fork(trial_resources: TrialResources, function: Callable[..., None], *args: str) -> None:
    try:
        call_warm(function, *args, trial_resources.device)
    except RuntimeError as error:
        raise WorkerError(str(error)) from None


def run_in_own_process(trial_resources: TrialResources, function: Callable[..., Value], *args: Any) -> Value:
    """Call ``function`` in a new process on a trial's resources, which ends with it; its last argument is their device.

    Raises WorkerError if the process is lost, or the function raises.
    """
    try:
        # One call a process, which ends with it; a second try would tell of another process.
        task = _task(trial_resources, function, max_calls=1, max_retries=0)
        value: Value = ray.get(task.remote(*args, trial_resources.device))
    except ray.exceptions.RayError as error:
        raise WorkerError(str(error)) from error
    return value


def run_on_every_node(trial_resources: TrialResources, function: Callable[..., None], *args: str) -> None:
    """Call ``function`` once on each node that has room for a trial, at the same time, with their device at the end.

    A node that is lost meanwhile is made up for by another. Raises InputError if the function does.
    """
    if trial_resources.num_nodes == 1:
        call_warm(function, *args, trial_resources.device)
        return
    at = [NodeAffinitySchedulingStrategy(node.id, soft=True) for node in nodes() if places(trial_resources, node)]
    tasks = [_task(trial_resources, function, scheduling_strategy=where) for where in at]
    _get([task.remote(*args, trial_resources.device) for task in tasks])


def call_beside_trials(trial_resources: TrialResources, function: Callable[..., None], *args: str) -> None:
    """Begin to call ``function`` beside the trials, with their device at the end, if all run on this machine."""
    if trial_resources.num_nodes == 1:
        begin_to_call_warm(function, *args, trial_resources.device)


def _task(trial_resources: TrialResources, function: Callable[..., object], **options: Any) -> Any:
    return ray.remote(num_cpus=trial_resources.cpus, num_gpus=trial_resources.gpus, **options)(function)


def _get(what: Any) -> Any:
    """The values of Ray's references; raises InputError if a task has, or its node failed."""
    try:
        return ray.get(what)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        if isinstance(error.cause, OSError) and (refused := refusal(error.cause)) is not None:
            raise refused from None
        raise
    except ray.exceptions.RayError as error:
        text = str(error)
        reason = str(read_low_memory(text)) if is_low_memory(text) else text.splitlines()[0]
        raise InputError(f"the node of a task beside the trials failed ({reason}); begin again") from None
