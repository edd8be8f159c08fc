"""The cluster at ``RAY_ADDRESS``, which others may be using too: a sweep's workers, reached by tasks beside them."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chaos.processes import is_training, read_process
from tune_jobs.execution.cluster import connect

HEAD = "node:__internal_head__"
"""What Ray calls a resource that the head's machine alone has."""
ANSWER_S = 60.0


@dataclass(frozen=True)
class JoinedWorker:
    """A process of the sweep on a machine, by Ray's name of that."""

    pid: int
    node: str

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing where the process has ended, or is another one by now."""
        _beside(self.node, _send, self.pid, number)

    def end_node(self) -> str:
        """Kill Ray on its machine, as if that were lost; says how. Raises RuntimeError for the head's, or this one."""
        heads = [node["NodeID"] for node in ray.nodes() if HEAD in node["Resources"]]
        if self.node in (*heads, ray.get_runtime_context().get_node_id()):
            raise RuntimeError(
                "kill-node: the trial trains beside the head or the driver, which no sweep can do without"
            )
        # The task ends with its machine.
        with suppress(ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
            _beside(self.node, _kill_raylet)
        return "by the end of its raylet"


@dataclass(frozen=True)
class JoinedCluster:
    """A cluster that this process has joined without holding anything of it."""

    def training(self, driver: int) -> list[JoinedWorker]:
        """The workers of the driver with this process number in which a trial trains just now."""
        own = (driver, ray.util.get_node_ip_address())
        jobs = {job["JobID"] for job in state.job_table() if (job["DriverPid"], job["DriverIPAddress"]) == own}
        actors = [
            actor
            for actor in state.actor_table(None, actor_state_name="ALIVE").values()
            if actor["JobID"] in jobs and actor["ActorClassName"].endswith("HandTrial")
        ]
        workers = [JoinedWorker(actor["Pid"], actor["Address"]["NodeID"]) for actor in actors]
        return [worker for worker in workers if _beside(worker.node, _trains, worker.pid)]


@contextmanager
def joined_cluster() -> Iterator[JoinedCluster]:
    """The cluster, joined for the block; raises InputError where it does not answer."""
    connect()
    try:
        yield JoinedCluster()
    finally:
        ray.shutdown()


def _beside(node: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of this module on a machine."""
    place = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
    return ray.get(task.remote(*args), timeout=ANSWER_S)


def _trains(pid: int) -> bool:
    found = read_process(pid)
    return found is not None and is_training(found)


def _send(pid: int, number: signal.Signals) -> None:
    found = read_process(pid)
    if found is not None and "HandTrial" in found.title:
        found.send(number)


def _kill_raylet() -> None:
    parent = read_process(os.getppid())
    if parent is None or "raylet" not in parent.title.split(maxsplit=1)[0]:
        raise RuntimeError("kill-node: this machine's workers are not raylet's own children, so it cannot be told")
    parent.send(signal.SIGKILL)
