"""The files of a sweep in a bucket, kept in step with the driver's local copy.

The journal is in the bucket before anything follows from it, and saved states go there from the workers. All else is
copied now and then, and at the end: what is a little old after a driver's death is made from the journal again.
"""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from handclip_core.scratch import scratch_folder
from tune_jobs.storage.lease import LOCK, OWNER
from tune_jobs.storage.location import BucketLocation, StorageLocation, files_below, folder_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.segments import FILE, FOLDER, TIP

EVERY_S = 30.0
"""Seconds between two copies while a sweep runs."""
DATABASE = ".db"
FINALS = "finals"
"""The folder of a sweep's finals in the sweep's."""
ELSEWHERE = (FILE, TIP, f"{FOLDER}/*", OWNER, "*.lock", "*.partial", "*.db-journal", "best/*", f"{FINALS}/*", ".*")
"""Files that have ways of their own, or none."""
OF_A_TRIAL = ("trials/*/config.json", "trials/*/error.txt")
"""All that is copied of trials; their states, and what Tune writes for itself, are not."""


def is_copied(path: str) -> bool:
    """Whether a file is copied, by its path in the sweep."""
    if path.startswith("trials/"):
        return path.count("/") == 2 and any(fnmatch(path, pattern) for pattern in OF_A_TRIAL)
    return not any(fnmatch(path, pattern) for pattern in ELSEWHERE)


class FolderSync:
    """Copies what has changed in a local copy to its bucket."""

    def __init__(self, folder: Path, bucket: BucketLocation) -> None:
        """Of the files in ``folder`` that are copied, all count as changed at first."""
        self._folder, self._bucket = folder, bucket
        self._sent: dict[str, tuple[int, int]] = {}
        self._turn = threading.Lock()

    def send(self) -> None:
        """Copy what has changed; raises OSError if the bucket does not answer, and may be called again."""
        with self._turn:
            found = (Path(root) / name for root, _, names in os.walk(self._folder) for name in names)
            for path in sorted(filter(is_copied, (file.relative_to(self._folder).as_posix() for file in found))):
                self._send_one(path)

    def _send_one(self, path: str) -> None:
        file, target = self._folder / path, self._bucket / path
        with suppress(FileNotFoundError):  # what is gone meanwhile need not be copied
            # Before it is sent: what changes meanwhile is sent again.
            found = file.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if self._sent.get(path) == stamp:
                return
            if path.endswith(DATABASE):
                _send_database(file, target)
            else:
                target.send(file)
            self._sent[path] = stamp


@contextmanager
def synced(folder: Path, where: StorageLocation) -> Iterator[None]:
    """Within the block the bucket follows the local copy ``folder``; it has all of it at the beginning and the end.

    Does nothing for a sweep in a folder. Raises InputError if the bucket stays away.
    """
    if isinstance(where, Path):
        yield
        return
    sync, over = FolderSync(folder, where), threading.Event()

    def follow() -> None:
        while not over.wait(EVERY_S):
            with suppress(OSError):  # the next round comes soon
                sync.send()

    with_retry(sync.send, path=where)
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    with_retry(sync.send, path=where)


def fetch_files(bucket: BucketLocation) -> Path:
    """Make the local copy of a sweep anew, but for the journal; raises InputError if the bucket stays away."""
    folder = folder_of(bucket)
    empty_folder(folder, but=(LOCK, FINALS))
    _fetch(bucket, folder, is_copied)
    return folder


def empty_folder(folder: Path, *, but: Sequence[str] = (LOCK,)) -> None:
    """Remove what a local copy holds ``but`` some; make the folder if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in but:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _send_database(file: Path, target: BucketLocation) -> None:
    """Copy a database as it is at one moment; raises OSError if that cannot be."""
    with scratch_folder() as folder:
        copy = folder / file.name
        try:
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as taken:
                source.backup(taken)
        except sqlite3.Error as error:
            raise OSError(str(error)) from None
        target.send(copy)


def local(where: StorageLocation, copy: Path, *, suffixes: Collection[str]) -> Path:
    """A folder with the files at ``where`` that end in one of ``suffixes``: itself, or ``copy`` if that is in a bucket.

    What ``copy`` has already is not fetched again: such files never change. Raises InputError if the bucket stays away.
    """
    if isinstance(where, Path):
        return where
    _fetch(where, copy, lambda name: Path(name).suffix in suffixes and not (copy / name).exists())
    return copy


def _fetch(bucket: BucketLocation, folder: Path, wanted: Callable[[str], bool]) -> None:
    for name in filter(wanted, with_retry(lambda: files_below(bucket), path=bucket)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(with_retry((bucket / name).read, path=bucket) or b"")
