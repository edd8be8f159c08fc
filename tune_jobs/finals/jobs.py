"""Jobs that run side by side on the cluster, in worker processes that stay warm, as many as there is room for."""

import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from tune_jobs.cluster import Room
from tune_jobs.interruption import Interrupted
from tune_jobs.reasons import describe_error

WAIT_S = 0.2
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Job:
    """A call of a module's function with plain arguments; its results go to files."""

    name: str
    function: Callable[..., None]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Failed:
    """Why a job failed: one line, and all that Ray knows."""

    reason: str
    traceback: str


def run_jobs(
    jobs: Sequence[Job], room: Room, *, stop_wanted: threading.Event, ended: Callable[[Job, Failed | None], None]
) -> None:
    """Run all ``jobs``; ``ended`` hears of each when it is over. A job whose process is lost is begun once more.

    Raises Interrupted, with nothing left running, once ``stop_wanted`` is set.
    """
    waiting, running = deque(jobs), dict[ray.ObjectRef, Job]()
    try:
        while waiting or running:
            while waiting and len(running) < room.concurrent:
                job = waiting.popleft()
                running[_start(job, room)] = job
            if stop_wanted.is_set():
                raise Interrupted
            done, _ = ray.wait(list(running), timeout=WAIT_S)
            for reference in done:
                ended(running.pop(reference), _failure(reference))
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _start(job: Job, room: Room) -> ray.ObjectRef:
    # Ray ends a process after each task that has a GPU; max_calls=0 keeps it, with its imports and caches.
    warm = ray.remote(num_cpus=room.cpus, num_gpus=room.gpus, max_calls=0, max_retries=1)
    return warm(job.function).remote(*job.arguments)


def _failure(reference: ray.ObjectRef) -> Failed | None:
    try:
        ray.get(reference)
    except RayError as error:
        return Failed(describe_error(error), COLOURS.sub("", str(error)))
    return None
