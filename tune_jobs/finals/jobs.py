"""Jobs that run side by side on the cluster, in worker processes that stay warm, as many as there is room for."""

import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from handclip_core.runs.experiment import Experiment
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.failures import Kind, describe_error, kind_of
from tune_jobs.execution.signals import Interrupted
from tune_jobs.reporting.summary import say
from tune_jobs.scheduling.retries import halved

WAIT_S = 0.2
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Job:
    """A call of a module's function with plain arguments; its results go to files.

    ``smaller`` is the same job for want of memory, if there is one.
    """

    name: str
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    smaller: "Job | None" = None


def experiment_job(name: str, function: Callable[..., None], folder: Path, experiment: Experiment, room: Room) -> Job:
    """A job that trains ``experiment`` into ``folder``; each smaller one passes half the images through at a time."""
    half = halved(experiment.micro_batch, experiment.strategy)
    less = None if half is None else experiment.model_copy(update={"micro_batch": half})
    smaller = None if less is None else experiment_job(name, function, folder, less, room)
    given = (str(folder), experiment.model_dump(mode="json"), room.device, room.cpus)
    return Job(name, function, given, smaller)


@dataclass(frozen=True)
class Failed:
    """Why a job failed: one line, what kind of failure it is, and all that Ray knows."""

    reason: str
    kind: Kind
    traceback: str


def run_jobs(
    jobs: Sequence[Job], room: Room, *, stop_wanted: threading.Event, ended: Callable[[Job, Failed | None], None]
) -> None:
    """Run all ``jobs``; ``ended`` hears of each when it is over.

    A job whose process is lost is begun once more, one that is out of memory again as its smaller one.

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
                job, failed = running.pop(reference), _failure(reference)
                if failed and failed.kind in (Kind.MEMORY, Kind.LOW_MEMORY) and job.smaller:
                    say(f"{job.name}: out of memory; again with half the images at a time")
                    waiting.appendleft(job.smaller)
                else:
                    ended(job, failed)
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
        return Failed(describe_error(error), kind_of(error), COLOURS.sub("", str(error)))
    return None
