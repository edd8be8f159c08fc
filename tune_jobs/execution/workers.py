"""Several processes for one trial: the trial's own, and companions on the trial's other bundles.

Every process holds the whole model and goes through the same budget units; ``handclip_core.process_group`` adds
their gradients up. Only the trial's own process reports, logs and saves. Companions stay warm from trial to trial, like
the trial's process itself.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import ray
import torch

from handclip_core.devices import select_device
from handclip_core.engine.objective import DivergedError
from handclip_core.engine.state import Resume
from handclip_core.runs.experiment import Experiment, Progress, run
from handclip_core.runs.run_folder import read_state
from tune_jobs.storage.location import Place, fetched, named_place
from tune_jobs.storage.retry import patiently

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before the trial counts as failed."""
PATIENCE_S = 5.0
"""How long a failed process waits to hear why the others failed."""


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a trial find each other."""

    address: str
    size: int
    backend: str

    @classmethod
    def here(cls, size: int, device: torch.device) -> "Meeting":
        """At a free port of this machine, by what ``device`` speaks."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        return cls(f"tcp://{host}:{port}", size, "nccl" if device.type == "cuda" else "gloo")

    def join(self, rank: int) -> None:
        """Become process ``rank``; returns once all have come."""
        torch.distributed.init_process_group(
            self.backend, init_method=self.address, rank=rank, world_size=self.size, timeout=TIMEOUT
        )


def leave() -> None:
    """Leave the meeting, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Companion:
    """A process that trains along; a Ray actor."""

    def __init__(self) -> None:
        self._progress: Iterator[Progress] = iter(())

    def open(self, config: dict[str, Any]) -> None:
        """Take the experiment of a trial's ``config``, to be gone on with from its checkpoint, if it has one."""
        leave()
        torch.set_num_threads(config["threads"])
        experiment, checkpoint = Experiment.model_validate(config["experiment"]), config["checkpoint"]
        resume = None
        if checkpoint is not None:
            saved = named_place(checkpoint)
            resume = patiently(partial(_read, saved), path=saved, verb="read")
        self._progress = run(experiment, device=select_device(config["device"]), resume=resume)

    def join(self, meeting: Meeting, rank: int) -> None:
        """Be process ``rank`` of those that train it."""
        meeting.join(rank)

    def step(self) -> None:
        """Train and validate one budget unit; an error leaves the meeting, so that the others do not wait."""
        try:
            next(self._progress, None)
        except BaseException:
            leave()
            raise

    def pid(self) -> int:
        """The number of this process."""
        return os.getpid()


class Companions:
    """The companions of one trial process, seen from there."""

    def __init__(self, *, num_companions: int, cpus: int, gpus: float) -> None:
        """Start them in the trial's placement group."""
        actor = ray.remote(Companion).options(num_cpus=cpus, num_gpus=gpus)
        self._actors = [actor.remote() for _ in range(num_companions)]

    def begin(self, config: dict[str, Any], device: torch.device) -> None:
        """Meet for a trial; this process is the first. Raises the error of a companion that is gone or cannot begin."""
        leave()
        ray.get([actor.open.remote(config) for actor in self._actors])
        meeting = Meeting.here(len(self._actors) + 1, device)
        joined = [actor.join.remote(meeting, rank) for rank, actor in enumerate(self._actors, start=1)]
        meeting.join(0)
        ray.get(joined)

    @contextmanager
    def step(self) -> Iterator[None]:
        """All companions take their step while the context's body takes this process's, and meet it there.

        Where one process fails, the others lose it and fail too; what is raised is the error of the one that did not
        only miss another.
        """
        steps = [actor.step.remote() for actor in self._actors]
        try:
            yield
        except Exception as error:
            leave()
            raise _cause(error, steps) from error
        ray.get(steps)

    def pids(self) -> list[int]:
        """The numbers of the companions' processes."""
        found: list[int] = ray.get([actor.pid.remote() for actor in self._actors])
        return found


def _read(state: Place) -> Resume:
    with fetched(state) as folder:
        return read_state(folder)


def _cause(error: Exception, steps: list[Any]) -> Exception:
    """The companion's error where this process's ``error`` is that it missed somebody, else ``error``."""
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError | DivergedError):
        return error
    for step in steps:
        try:
            ray.get(step, timeout=PATIENCE_S)
        except ray.exceptions.GetTimeoutError:
            continue
        except Exception as theirs:
            if not _missed_somebody(theirs):
                return theirs
    return error


def _missed_somebody(error: BaseException) -> bool:
    text = str(error).lower()
    return "connection closed" in text or "connection reset" in text
