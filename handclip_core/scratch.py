"""Temporary folders that go when their process does: at its end or, if it was killed, at the next start."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "handclip-", "handclip.lock"
"""Of our folders among others' temporary ones, and the file in each that its owner holds locked while it lives."""
_held: list[FileLock] = []


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that is there within the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, _locked(Path(folder)):
        files = Path(folder) / "files"
        files.mkdir()
        yield files


def claim(folder: Path) -> None:
    """Let ``remove_left`` remove ``folder`` once this process has ended, however it does, and its forks have."""
    _held.append(_locked(folder))


def remove_left(folders: Iterable[Path] = ()) -> None:
    """Remove what killed processes of this user left: temporary folders, and those of ``folders`` that were claimed.

    The system drops the lock of a process that ends, also if that runs in another container, so no number of a
    process has to be trusted.
    """
    for folder in (*Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), *folders):
        lock = folder / LOCK
        try:
            found = lock.stat()
            if folder.is_symlink() or found.st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):
            continue  # it is in use, nobody's, or going


def _locked(folder: Path) -> FileLock:
    """A lock on ``folder`` whose file gets its name once it is held, so that none of that name is free by mistake."""
    lock = FileLock(folder / f"{LOCK}.new")
    lock.acquire()
    (folder / f"{LOCK}.new").rename(folder / LOCK)
    return lock
