"""The Ray cluster that a sweep runs on: joined where there is one, else started on this machine alone."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray._private.state import state
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from handclip_core.devices import Device
from handclip_core.errors import InputError
from tune_jobs.config.settings import Resources
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory

Value = TypeVar("Value")
OBJECT_STORE_BYTES = 128 * 2**20
"""Trials exchange numbers alone, so a local cluster needs next to no shared memory."""

TUNE_ENVIRONMENT = {
    # The recorder writes what is to be written.
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
"""The label by which Ray knows each machine."""
TIMED_OUT = "timed out during startup"
"""How Ray says it of its own processes."""
FIRST_NODE_S = 1200.0
"""Seconds within which an autoscaler has to bring the first machine."""


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster offers."""

    cpus: float
    gpus: float
    id: str = ""
    """Ray's name of it."""


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
    """Trials that are to wait for machines, beside those that have one."""
    excluded_nodes: tuple[str, ...] = ()
    """Machines that work beside the trials keeps clear of, if there are others."""


def connect() -> None:
    """Join the cluster at ``RAY_ADDRESS``, which a Ray job sets; else start one on this machine. Quiet either way."""
    os.environ.update(TUNE_ENVIRONMENT)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(**quiet)
        except ConnectionError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: no cluster answers ({reason})") from None
        return
    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    except Exception as error:  # Ray raises no narrower one
        if TIMED_OUT not in str(error):
            raise
        ray.shutdown()
        raise InputError("Ray did not start on this machine in time; begin again when it is less busy") from None


def nodes() -> list[Node]:
    """The machines of the cluster that are alive, but those that are about to go."""
    leaving = state.get_draining_nodes()
    alive = [(node["Resources"], node["NodeID"]) for node in ray.nodes() if node["Alive"]]
    alive = [(item, name) for item, name in alive if name not in leaving]
    return [Node(cpus=item.get("CPU", 0.0), gpus=item.get("GPU", 0.0), id=name) for item, name in alive]


def fit_trials(resources: Resources, cluster: Sequence[Node]) -> TrialResources:
    """Fit trials onto ``cluster``; raises InputError where not a single one fits."""
    has_gpu = any(node.gpus > 0 for node in cluster)
    if resources.device is Device.CUDA and not has_gpu:
        raise InputError("resources.device: 'cuda' was asked for, but the cluster has no GPU; use 'cpu' or 'auto'")
    gpus = resources.gpus if has_gpu and resources.device is not Device.CPU else 0.0
    fit = sum(_fit(node, resources.cpus, gpus) for node in cluster)
    if 0 < fit < resources.workers:
        raise InputError(
            f"resources.workers: a trial asks for {resources.workers} processes, but the cluster has room for {fit} of "
            f"{resources.cpus} CPUs and {gpus:g} GPUs each"
        )
    if fit == 0:
        raise InputError(
            f"resources: a trial asks for {resources.cpus} CPUs and {gpus:g} GPUs, but the largest machine has "
            f"{max((node.cpus for node in cluster), default=0):g} CPUs and "
            f"{max((node.gpus for node in cluster), default=0):g} GPUs; set resources.cpus or resources.gpus lower"
        )
    concurrent = fit // resources.workers
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
    """Trials that may be under way on ``cluster``, and those that wait for machines.

    A machine has no more than are ``allowed`` there, if that is said. At least 1 in all, unless one may have none.
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
    """Ask for a place that a machine has for a process of a trial, so that Ray gives it to nothing else."""
    place = bundles(cpus=trial_resources.cpus, gpus=trial_resources.gpus, workers=1)
    return ray.util.placement_group(place, bundle_label_selector=[{NODE_LABEL: node_id}])


def wait_for_node(resources: Resources) -> None:
    """On a cluster that adds machines where trials wait, let one trial wait, for the first machine.

    Raises InputError where none has come after ``FIRST_NODE_S``.
    """
    gpus = resources.gpus if resources.device is Device.CUDA else 0.0
    if resources.waiting == 0 or sum(_fit(node, resources.cpus, gpus) for node in nodes()) >= resources.workers:
        return
    print(f"no machine has room for a trial yet; waiting {FIRST_NODE_S / 60:.0f} minutes for one", flush=True)
    group = ray.util.placement_group(bundles(cpus=resources.cpus, gpus=gpus, workers=resources.workers))
    try:
        if not group.wait(FIRST_NODE_S):
            raise InputError(
                f"resources: no machine with room for a trial ({resources.cpus} CPUs and {gpus:g} GPUs) has joined "
                f"within {FIRST_NODE_S / 60:.0f} minutes; see why the autoscaler adds none, or set resources lower"
            )
    finally:
        ray.util.remove_placement_group(group)


def run_where_trials_run(trial_resources: TrialResources, function: Callable[..., Value], *args: Any) -> Value:
    """Call ``function`` in this process where the cluster is this machine alone, else as a task on a trial's resources.

    Raises InputError where the function does, or its machine fails.
    """
    if trial_resources.num_nodes == 1:
        return function(*args)
    options: dict[str, Any] = {"num_cpus": trial_resources.cpus, "num_gpus": trial_resources.gpus}
    if trial_resources.excluded_nodes:
        options["label_selector"] = {NODE_LABEL: f"!in({','.join(trial_resources.excluded_nodes)})"}
        options["fallback_strategy"] = [{"label_selector": {}}]
    task = ray.remote(function).options(**options)
    value: Value = _get(task.remote(*args))
    return value


def run_in_own_process(trial_resources: TrialResources, function: Callable[..., Value], *args: Any) -> Value:
    """Call ``function`` in a new process on a trial's resources, which ends with it.

    Raises WorkerError if the process is lost, or the function raises.
    """
    task = ray.remote(num_cpus=trial_resources.cpus, num_gpus=trial_resources.gpus, max_calls=1, max_retries=0)(
        function
    )
    try:
        value: Value = ray.get(task.remote(*args))
    except ray.exceptions.RayError as error:
        raise WorkerError(str(error)) from error
    return value


def run_on_every_node(trial_resources: TrialResources, function: Callable[..., object], *args: Any) -> None:
    """Call ``function`` once on each machine that has room for a trial, at the same time.

    A machine that is lost meanwhile is made up for by another. Raises InputError where the function does.
    """
    if trial_resources.num_nodes == 1:
        function(*args)
        return
    task = ray.remote(function)
    at = [NodeAffinitySchedulingStrategy(node.id, soft=True) for node in nodes() if places(trial_resources, node)]
    each = [
        task.options(num_cpus=trial_resources.cpus, num_gpus=trial_resources.gpus, scheduling_strategy=where)
        for where in at
    ]
    _get([one.remote(*args) for one in each])


def _get(what: Any) -> Any:
    """The values of Ray's references; raises InputError where a task has, or its machine failed."""
    try:
        return ray.get(what)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        text = str(error)
        reason = str(read_low_memory(text)) if is_low_memory(text) else text.splitlines()[0]
        raise InputError(f"the machine of a task beside the trials failed ({reason}); begin again") from None


def _fit(node: Node, cpus: int, gpus: float) -> int:
    by_cpu = int(node.cpus // cpus)
    return by_cpu if not gpus else min(by_cpu, _fit_gpus(node.gpus, gpus))


def _fit_gpus(available: float, each: float) -> int:
    """Trials that share ``available`` GPUs; a fraction never spans two of them."""
    if each >= 1:
        return int(available // each)
    return int(available) * int(1 / each + 1e-9)
