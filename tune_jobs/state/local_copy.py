"""A sweep in a bucket as a folder of this machine, its journal joined from its parts."""

from pathlib import Path

from tune_jobs.state.journal import joined, write_journal
from tune_jobs.storage.lease import idle
from tune_jobs.storage.location import Bucket, Place, folder_of
from tune_jobs.storage.segments import FILE, read_segments
from tune_jobs.storage.sync import fetch_files


def take_down(bucket: Bucket) -> Path:
    """Make the local copy of a sweep anew from its bucket; raises InputError if that stays away."""
    folder = fetch_files(bucket)
    write_journal(folder / FILE, joined(read_segments(bucket)))
    return folder


def to_read(where: Place) -> Path:
    """The folder of a sweep, to be read; a local copy is brought up to date unless a driver here is at work in it.

    Raises InputError if the bucket stays away.
    """
    folder = folder_of(where)
    if isinstance(where, Path):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with idle(folder) as is_idle:
        return take_down(where) if is_idle else folder
