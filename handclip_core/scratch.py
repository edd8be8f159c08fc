"""Temporary folders that go when their process does: at its end or, if it was killed, at the next start."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "handclip-", "handclip.lock"
"""Of our folders among others' temporary ones, and the file in each that its owner holds locked while it lives."""
YOUNG_S = 60.0
"""Seconds for which a folder is left alone: its owner may not have come to lock it."""
_held: list[FileLock] = []


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that is there within the block."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, FileLock(Path(folder) / LOCK):
        files = Path(folder) / "files"
        files.mkdir()
        yield files


def claim(folder: Path) -> None:
    """Let ``remove_left`` remove ``folder`` once this process has ended, however it does, and its forks have."""
    _held.append(lock := FileLock(folder / LOCK))
    lock.acquire()


def remove_left(folders: Iterable[Path] = ()) -> None:
    """Remove what killed processes of this user left: temporary folders, and those of ``folders`` that were claimed.

    The system drops the lock of a process that ends, also if that runs in another container, so no number of a
    process has to be trusted.
    """
    for folder in (*Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), *folders):
        lock = folder / LOCK
        try:
            found = lock.stat()
            if folder.is_symlink() or found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNG_S:
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):
            continue  # it is in use, nobody's, or going
