"""Files of a storage location as files of this machine."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

from tune_jobs.storage.location import StorageLocation, files_below
from tune_jobs.storage.retry import with_retry


def local(where: StorageLocation, copy: Path, *, suffixes: Collection[str]) -> Path:
    """A folder with the files at ``where`` that end in one of ``suffixes``: itself, or ``copy`` if that is in a bucket.

    What ``copy`` has already is not fetched again: such files never change. Raises InputError if the bucket stays away.
    """
    if isinstance(where, Path):
        return where
    for name in with_retry(partial(files_below, where), path=where):
        target = copy / name
        if Path(name).suffix in suffixes and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(with_retry((where / name).read, path=where) or b"")
    return copy
