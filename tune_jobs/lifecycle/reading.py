"""Reading a sweep that others may be running: nothing of it is changed."""

from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.paths import user_path
from tune_jobs.config.settings import SETTINGS
from tune_jobs.lifecycle.folders import is_sweep, stored_settings
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.local_copy import readable_folder
from tune_jobs.storage.location import BucketLocation, StorageLocation, absolute, parse_location


def named_sweep(name: str, storage: str) -> StorageLocation:
    """Where the sweep is that a user names by its folder, its URI, or its name in ``storage``.

    Raises InputError for what can be no path, and if a bucket cannot be reached.
    """
    given = parse_location(name)
    if isinstance(given, BucketLocation) or is_sweep(given):
        return absolute(given)
    place = absolute(parse_location(storage))
    if isinstance(place, BucketLocation):
        place.check()
    else:
        user_path(name)
    return place / name


def read_record(where: StorageLocation) -> SweepRecord:
    """The sweep at ``where`` as it is now; raises InputError if there is none, or its journal is damaged."""
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep of this name; {_others(where.parent)}")
    settings, folder = stored_settings(where), readable_folder(where)
    return SweepRecord(where, folder, settings, read_journal(folder / FILE))


def _others(storage: StorageLocation) -> str:
    """What a user who has mistyped a sweep's name may have meant."""
    found = sorted(path.parent.name for path in storage.glob(f"*/{SETTINGS}")) if isinstance(storage, Path) else []
    return f"there are {', '.join(found)}" if found else "there are no sweeps; give their folder as --storage"
