"""Processes of this machine by session: all that a Ray node or a driver has started, and nothing else."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A running process. ``started`` tells it from a later one with the same number."""

    pid: int
    session: int
    started: int
    title: str
    """Its command line, or what it calls itself."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing where the process has ended meanwhile."""
        found = read_process(self.pid)
        if found is not None and found.started == self.started:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def read_process(pid: int) -> Process | None:
    """The process with a number; None where there is none, or only the remains of one."""
    try:
        # The name of the program, in brackets, may hold anything; what follows it may not.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        title = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    state, session, started = fields[0], int(fields[3]), int(fields[19])
    return None if state in "ZX" else Process(pid, session, started, title)


def is_training(process: Process) -> bool:
    """Whether it is a worker in which a trial trains just now; others wait for one."""
    return process.title.startswith("ray::HandTrial.train")


def processes_of(session: int) -> list[Process]:
    """The running processes of a session, which is named by the number of its first process."""
    found = (read_process(int(path.name)) for path in PROC.iterdir() if path.name.isdigit())
    return [process for process in found if process is not None and process.session == session]


def kill_session(session: int, *, limit_s: float = 30.0) -> None:
    """Kill every process of a session at once, and come back when all have ended."""

    def gone() -> bool:
        left = processes_of(session)
        for process in left:
            process.send(signal.SIGKILL)
        return not left

    wait_until(gone, what=f"the end of session {session}", limit_s=limit_s, every_s=0.05)


def wait_until(condition: Callable[[], bool], *, what: str, limit_s: float, every_s: float = 0.2) -> float:
    """Wait for a condition; returns the seconds that it took, raises TimeoutError, which names ``what``."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > limit_s:
            raise TimeoutError(f"waited {limit_s:.0f} s in vain for {what}")
        time.sleep(every_s)
    return time.monotonic() - started
