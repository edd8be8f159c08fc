"""One driver a sweep: a lease that a dead driver cannot keep.

On one host, and on file systems that share locks, the system's own lock decides and goes with its process. On others,
and for a sweep in a bucket, the owner's heartbeat decides: a file that it rewrites every few seconds.
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
from typing import Self

from handclip_core.errors import InputError
from handclip_core.runs.run_folder import write_text
from tune_jobs.storage.location import BucketLocation, StorageLocation, folder_of
from tune_jobs.storage.retry import with_retry

LOCK, OWNER = "driver.lock", "driver.json"
HEARTBEAT_S = 2.0
HEARTBEATS_TO_WATCH = 4
"""Heartbeats missed after which an owner on another host is taken for dead."""


@dataclass(frozen=True)
class Owner:
    """A driver, and how many heartbeats it has sent; ``job`` is the Ray job that it was submitted as, if it was."""

    host: str
    boot: str
    pid: int
    token: str
    beats: int = 0
    job: str = ""


class SweepLease:
    """Held by the driver of a sweep. ``lost`` is set if another driver has taken the sweep over."""

    def __init__(self, where: StorageLocation, *, heartbeat_s: float = HEARTBEAT_S, job: str = "") -> None:
        """That of the sweep at ``where``, with a heartbeat every ``heartbeat_s`` seconds."""
        self._where, self._folder = where, folder_of(where)
        self._heartbeat_s = heartbeat_s
        self._own = Owner(socket.gethostname(), boot_id(), os.getpid(), secrets.token_hex(8), job=job)
        self._file = -1
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        self.lost = threading.Event()
        self.former: Owner | None = None
        """Who held the lease before and never released it, known once this one is taken."""

    def __enter__(self) -> Self:
        """Take the lease; raises InputError if another driver lives, or a bucket stays away."""
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

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        # Otherwise another driver has its name there.
        if not self.lost.is_set():
            with suppress(OSError):  # a storage that is away; the next driver will find no heartbeat
                place = self._where / OWNER
                place.unlink(missing_ok=True) if isinstance(place, Path) else place.delete()
        os.close(self._file)

    def _locked(self) -> bool:
        """Whether the file system has locks, this one now being ours; raises InputError if it is another's."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._taken(read_owner(self._where)) from None
        except OSError:
            return False
        return True

    def _mark(self) -> str:
        """What tells this local copy from others on the host, of other users or containers: a random word."""
        found = os.pread(self._file, 64, 0).decode()
        if not found:
            found = secrets.token_hex(8)
            os.pwrite(self._file, found.encode(), 0)
        return found

    def _refuse_living_owner(self, *, system_locks: bool) -> None:
        """Watch an owner for some heartbeats; one that this host's locks would have told of is dead."""
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
                continue  # the storage is away; a driver that can reach it may take the sweep over

    def _send_heartbeat(self, beats: int) -> None:
        place, text = self._where / OWNER, json.dumps(asdict(replace(self._own, beats=beats)))
        write_text(place, text) if isinstance(place, Path) else place.write(text.encode())


@contextmanager
def idle(folder: Path) -> Iterator[bool]:
    """Whether no driver of this host is at work in ``folder``; none can begin within the block then."""
    # Made if need be, and never emptied: the mark of the local copy stands in it.
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def read_owner(where: StorageLocation) -> Owner | None:
    """Who runs the sweep at ``where``, or ran it until it died; None if that is not known."""
    try:
        return _find_owner(where)
    except OSError:
        return None


def _find_owner(where: StorageLocation) -> Owner | None:
    """Who runs the sweep, None if nobody does; raises OSError if the storage is away."""
    try:
        place = where / OWNER
        data = place.read_bytes() if isinstance(place, Path) else place.read()
        return None if data is None else Owner(**json.loads(data))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def boot_id() -> str:
    """What tells this host, since it was started, from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()
