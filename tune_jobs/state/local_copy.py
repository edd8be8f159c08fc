"""A sweep in a bucket as a local folder, its journal joined from its parts."""

from pathlib import Path
from typing import Any

from handclip_core.scratch import scratch_folder
from tune_jobs.state.events import Opened
from tune_jobs.state.journal import joined, read_journal, write_journal
from tune_jobs.storage.lease import idle
from tune_jobs.storage.location import StorageLocation, folder_of
from tune_jobs.storage.segments import FILE, read_segments
from tune_jobs.storage.sync import fetch_files


def download(where: StorageLocation) -> Path:
    """The folder of a sweep; a local copy is made anew from its bucket. Raises InputError if that stays away."""
    if isinstance(where, Path):
        return where
    folder = fetch_files(where)
    write_journal(folder / FILE, joined(read_segments(where)))
    return folder


def readable_folder(where: StorageLocation) -> Path:
    """The folder of a sweep, to be read; a local copy is brought up to date unless a driver here is at work in it.

    Raises InputError if the bucket stays away.
    """
    folder = folder_of(where)
    if isinstance(where, Path):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with idle(folder) as is_idle:
        return download(where) if is_idle else folder


def last_settings(where: StorageLocation) -> dict[str, Any] | None:
    """The settings with which the sweep at ``where`` was last run, None before its first driver.

    Raises InputError if its journal is damaged, or if the bucket stays away.
    """
    if isinstance(where, Path):
        events = read_journal(where / FILE)
    else:
        with scratch_folder() as folder:
            write_journal(folder / FILE, joined(read_segments(where)))
            events = read_journal(folder / FILE)
    return next((event.settings for event in reversed(events) if isinstance(event, Opened)), None)
