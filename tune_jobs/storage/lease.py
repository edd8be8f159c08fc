"""One driver a sweep: a lock that a dead driver cannot keep.

On one machine, and on file systems that share locks, the system's own lock decides and goes with its process. Between
machines whose shared folder does not, and for a sweep in a bucket, the owner's heart is watched: a file that it
rewrites every few seconds.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from handclip_core.errors import InputError
from handclip_core.runs.run_folder import write_text
from tune_jobs.storage.location import BucketLocation, StorageLocation, folder_of
from tune_jobs.storage.retry import with_retry

LOCK, OWNER = "driver.lock", "driver.json"
HEARTBEAT_S = 2.0
HEARTBEATS_TO_WATCH = 4
"""Beats without a sign of life after which an owner on another machine is taken for dead."""


@dataclass(frozen=True)
class Owner:
    """A driver, and how often its heart has beaten."""

    host: str
    boot: str
    pid: int
    token: str
    beats: int = 0
    job: str = ""
    """The Ray job that it was submitted as, if it was."""


class SweepLease:
    """Held by the driver of a sweep. ``lost`` is set where another driver has taken the sweep over."""

    def __init__(self, where: StorageLocation, *, heartbeat_s: float = HEARTBEAT_S, job: str = "") -> None:
        """The lock of the sweep at ``where``; its owner's heart beats every ``heartbeat_s`` seconds.

        ``job`` is what this driver was submitted as.
        """
        self._where, self._folder = where, folder_of(where)
        self._heartbeat_s = heartbeat_s
        self._own = Owner(socket.gethostname(), boot_id(), os.getpid(), secrets.token_hex(8), job=job)
        self._file = -1
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        self.lost = threading.Event()
        self.former: Owner | None = None
        """Who held the lock before and never let go of it, known once the lock is taken."""

    def __enter__(self) -> Self:
        """Take the lock; raises InputError where another driver lives, or where a bucket stays away."""
        if isinstance(self._where, BucketLocation):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            has_locks = self._locked()
            if isinstance(self._where, BucketLocation):
                self._own = replace(self._own, boot=f"{boot_id()} {self._mark()}")
            self._refuse_living_owner(system_locks=has_locks)
            with_retry(lambda: self._send_heartbeat(0), path=self._where)
            if isinstance(self._where, BucketLocation):
                self._refuse_rival()
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
            with suppress(OSError):  # a storage that is away; whoever looks will find no sign of life
                _remove_owner(self._where)
        os.close(self._file)

    def _locked(self) -> bool:
        """Whether the file system has locks, this one now being ours; raises InputError where it is another's."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(read_owner(self._where)) from None
        except OSError:
            return False
        return True

    def _mark(self) -> str:
        """What tells this working copy from others of the machine, of other users or containers: a random word."""
        found = os.pread(self._file, 64, 0).decode()
        if not found:
            found = secrets.token_hex(8)
            os.pwrite(self._file, found.encode(), 0)
        return found

    def _refuse_living_owner(self, *, system_locks: bool) -> None:
        """Watch an owner for some beats; one that this machine's locks would have told of is dead."""
        owner = self.former = self._owner()
        if owner is None or (system_locks and owner.boot == self._own.boot):
            return
        for _ in range(2 * HEARTBEATS_TO_WATCH):
            time.sleep(self._heartbeat_s / 2)
            if self._owner() != owner:
                raise self._taken(owner)

    def _refuse_rival(self) -> None:
        """Of drivers that begin at the same moment the last to write its name stays."""
        time.sleep(self._heartbeat_s)
        owner = self._owner()
        if owner is None or owner.token != self._own.token:
            raise self._taken(owner)

    def _owner(self) -> Owner | None:
        return with_retry(lambda: _find_owner(self._where), path=self._where)

    def _taken(self, owner: Owner | None) -> InputError:
        who = "" if owner is None else f" by process {owner.pid} on {owner.host}"
        return InputError(f"{self._where}: is being run{who}; wait until that has ended, or end it")

    def _send_heartbeats(self) -> None:
        beats = 0
        while not self._released.wait(self._heartbeat_s):
            beats += 1
            try:
                owner = _find_owner(self._where)
                if owner is not None and owner.token != self._own.token:
                    self.lost.set()
                    return
                self._send_heartbeat(beats)
            except OSError:
                continue  # the storage is away for a while; whoever can see it may take the sweep over

    def _send_heartbeat(self, beats: int) -> None:
        _write_owner(self._where, replace(self._own, beats=beats))


@contextmanager
def idle(folder: Path) -> Iterator[bool]:
    """Whether no driver of this machine is at work in ``folder``; none can begin within the block then."""
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def read_owner(where: StorageLocation) -> Owner | None:
    """Who runs the sweep at ``where``, or ran it until it died; None where that is not known."""
    try:
        return _find_owner(where)
    except OSError:
        return None


def _find_owner(where: StorageLocation) -> Owner | None:
    """Who runs the sweep, None where nobody does; raises OSError where the storage is away."""
    try:
        data = (where / OWNER).read_bytes() if isinstance(where, Path) else (where / OWNER).read()
        return None if data is None else Owner(**json.loads(data))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _write_owner(where: StorageLocation, owner: Owner) -> None:
    text = json.dumps(asdict(owner))
    write_text(where / OWNER, text) if isinstance(where, Path) else (where / OWNER).write(text.encode())


def _remove_owner(where: StorageLocation) -> None:
    (where / OWNER).unlink(missing_ok=True) if isinstance(where, Path) else (where / OWNER).delete()


def boot_id() -> str:
    """What tells this machine, since it was started, from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()
