"""Whole commands that get signals at a moment: each in a session of its own, nothing of which may be left."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.processes import processes_of, wait_until
from tests.limits import LIMIT_S

WITHIN_S = 10.0
"""What is promised. This alone depends on how busy the machine is, and these tests are not part of every run."""
LATER_S = 1.2
"""Between two signals, so that they do not count as one."""
SENT = {
    "SIGTERM to the group": ((signal.SIGTERM,), True),
    "SIGINT to the group": ((signal.SIGINT,), True),
    "SIGHUP to the group": ((signal.SIGHUP,), True),
    "SIGTERM to the process": ((signal.SIGTERM,), False),
    "SIGTERM to the group twice": ((signal.SIGTERM, signal.SIGTERM), True),
    "SIGINT, then SIGTERM, to the group": ((signal.SIGINT, signal.SIGTERM), True),
}
"""Which signals are sent one after the other, and whether to the whole group of the process."""


@dataclass(frozen=True)
class Running:
    """A command that runs, what it says, and where it does."""

    pid: int
    log: Path
    folder: Path

    def said(self, words: str) -> bool:
        """Whether ``words`` are in its output."""
        return words in self.log.read_text()

    def imports(self, package: str) -> bool:
        """Whether it has begun to import ``package``: a library of it is mapped."""
        try:
            return f"/{package}/" in (Path("/proc") / str(self.pid) / "maps").read_text()
        except OSError:
            return False

    def opens(self, folder: Path) -> bool:
        """Whether it has a file below ``folder`` open."""
        links = (Path("/proc") / str(self.pid) / "fd").glob("*")
        found = []
        for link in links:
            with suppress(OSError):  # closed meanwhile
                found.append(link.readlink())
        return any(file.is_relative_to(folder) for file in found)

    def runs(self, title: str) -> bool:
        """Whether a process that it has started is called so."""
        return any(title in one.title for one in processes_of(self.pid) if one.pid != self.pid)


def end_at(
    moment: str, reached: Callable[[Running], bool], sent: str, command: Sequence[str], *, log: Path, folder: Path
) -> str:
    """What ``command`` says, which is run in ``folder`` and is ``sent`` signals once it has ``reached`` a moment.

    It has to end in time, with the code of the first signal, and with nothing of it left, no traceback and no dump.
    """
    numbers, group = SENT[sent]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, start_new_session=True, preexec_fn=_as_in_a_terminal
        )
    running = Running(process.pid, log, folder)
    try:
        wait_until(lambda: reached(running) or process.poll() is not None, what=moment, limit_s=LIMIT_S, every_s=0.01)
        assert process.poll() is None, f"ended before the signal: {log.read_text()}"
        began = time.monotonic()
        for place, number in enumerate(numbers):
            time.sleep(LATER_S if place else 0.0)
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(timeout=LIMIT_S)
        took = time.monotonic() - began
    finally:
        process.kill()
    wait_until(lambda: not processes_of(process.pid), what="the end of all of it", limit_s=LIMIT_S)
    said = log.read_text()
    assert code == 128 + numbers[0], said
    assert took < WITHIN_S
    assert not re.search(r"Traceback|Error\b|Exception|logging\.cc|rpc_client", said), said
    return said


def _as_in_a_terminal() -> None:
    """Ignore no signal, though what runs these tests in the background may."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
