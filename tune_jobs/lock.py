"""One driver a sweep: a lock on its folder that a dead driver cannot keep.

On one machine, and on file systems that share locks, the system's own lock decides and goes with its process. Between
machines whose shared folder does not, the owner's heart is watched: a file that it rewrites every few seconds.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from handclip_core.errors import InputError
from handclip_core.runs import write_text

LOCK, OWNER = "driver.lock", "driver.json"
BEAT_S = 2.0
BEATS_TO_WATCH = 4
"""Beats without a sign of life after which an owner on another machine is taken for dead."""


@dataclass(frozen=True)
class Owner:
    """A driver, and how often its heart has beaten."""

    host: str
    boot: str
    pid: int
    token: str
    beats: int = 0


class SweepLock:
    """Held by the driver of the sweep in a folder. ``lost`` is set where another driver has taken the sweep over."""

    def __init__(self, folder: Path, *, beat_s: float = BEAT_S) -> None:
        """The lock of the sweep in ``folder``; its owner's heart beats every ``beat_s`` seconds."""
        self._folder = folder
        self._beat_s = beat_s
        self._own = Owner(socket.gethostname(), boot_id(), os.getpid(), secrets.token_hex(8))
        self._file = -1
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self.lost = threading.Event()

    def __enter__(self) -> Self:
        """Take the lock; raises InputError where another driver lives."""
        self._file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            self._refuse_living_owner(system_locks=self._locked())
            self._beat(0)
        except BaseException:
            os.close(self._file)
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        if not self.lost.is_set():
            (self._folder / OWNER).unlink(missing_ok=True)
        os.close(self._file)

    def _locked(self) -> bool:
        """Whether the file system has locks, this one now being ours; raises InputError where it is another's."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(read_owner(self._folder)) from None
        except OSError:
            return False
        return True

    def _refuse_living_owner(self, *, system_locks: bool) -> None:
        """Watch an owner for some beats; one that this machine's locks would have told of is dead."""
        owner = read_owner(self._folder)
        if owner is None or (system_locks and owner.boot == self._own.boot):
            return
        for _ in range(2 * BEATS_TO_WATCH):
            time.sleep(self._beat_s / 2)
            if read_owner(self._folder) != owner:
                raise self._taken(owner)

    def _taken(self, owner: Owner | None) -> InputError:
        who = "" if owner is None else f" by process {owner.pid} on {owner.host}"
        return InputError(f"{self._folder}: is being run{who}; wait until that has ended, or end it")

    def _keep_beating(self) -> None:
        beats = 0
        while not self._released.wait(self._beat_s):
            beats += 1
            try:
                owner = read_owner(self._folder)
                if owner is not None and owner.token != self._own.token:
                    self.lost.set()
                    return
                self._beat(beats)
            except OSError:
                continue  # the storage is away for a while; whoever can see it may take the sweep over

    def _beat(self, beats: int) -> None:
        write_text(self._folder / OWNER, json.dumps(asdict(replace(self._own, beats=beats))))


def read_owner(folder: Path) -> Owner | None:
    """Who runs the sweep in ``folder``, or ran it until it died; None where that is not known."""
    try:
        return Owner(**json.loads((folder / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def boot_id() -> str:
    """What tells this machine, since it was started, from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()
