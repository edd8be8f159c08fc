"""Where a sweep's results go."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.paths import output_folder
from handclip_core.runs.run_folder import write_text
from handclip_core.scratch import scratch_folder
from tune_jobs.config.settings import SETTINGS, SweepSettings, dump_settings, load_settings
from tune_jobs.storage.lease import idle
from tune_jobs.storage.location import BucketLocation, StorageLocation, absolute, exists, folder_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.sync import empty_folder

BEST = "best"
"""The folder of the winner's results in a sweep's."""


def resolved(settings: SweepSettings, *, in_ray_job: bool) -> SweepSettings:
    """The settings with absolute paths; raises InputError for a Ray job whose storage would vanish with it."""
    storage, other = settings.storage, settings.warm_start
    if isinstance(storage, BucketLocation):
        storage.check()
    elif in_ray_job and not storage.is_absolute():
        raise InputError(
            f"storage: '{storage}' would lie in the job's own folder, which Ray deletes; "
            "give an absolute path that the whole cluster shares, as in --set storage=/shared/runs"
        )
    data = settings.data
    if isinstance(data, PreparedData):
        data = data.model_copy(update={"folder": data.folder.expanduser().resolve()})
    if isinstance(storage, Path):
        output_folder(storage, option="storage")
    storage = absolute(storage)
    other = None if other is None else sweep_folder(other, storage)
    return settings.model_copy(update={"storage": storage, "data": data, "warm_start": other})


def sweep_folder(given: StorageLocation, storage: StorageLocation) -> StorageLocation:
    """The place of a sweep that is ``given`` by its path or URI, or by its name in ``storage``."""
    if isinstance(given, BucketLocation):
        return given
    folder = given.expanduser().resolve()
    if is_sweep(folder):
        return folder
    named = storage / str(given)
    return folder if folder.is_dir() and not is_sweep(named) else named


def is_sweep(where: StorageLocation) -> bool:
    """Whether a sweep's settings are there; raises InputError if a bucket stays away."""
    return with_retry(lambda: exists(where / SETTINGS), path=where)


def refuse_unknown_sweep(where: StorageLocation, *, option: str) -> None:
    """Raise InputError, which names ``option``, if there is no sweep at ``where``."""
    if isinstance(where, BucketLocation):
        where.check()
    if not is_sweep(where):
        wanted = f"with a {SETTINGS}; give the path of one, or its name in the storage"
        raise InputError(f"{option}: {where} is no sweep's folder, {wanted}")


def stored_settings(where: StorageLocation) -> SweepSettings:
    """The settings of the sweep at ``where``, with its place as it is now; raises InputError if there are none."""
    with scratch_folder() as folder:
        given = where / SETTINGS
        file = given if isinstance(given, Path) else folder / SETTINGS
        if isinstance(given, BucketLocation) and (text := with_retry(given.read, path=where)) is not None:
            file.write_bytes(text)
        if file.is_file() and not file.stat().st_size:
            raise InputError(f"{given}: is empty; put back a copy of it")
        try:
            found = load_settings(file)
        except InputError as error:
            raise InputError(str(error).replace(str(file), str(given))) from None
    return found.model_copy(update={"storage": where.parent})


def refuse_taken_name(settings: SweepSettings, *, number_taken_names: bool) -> None:
    """Raise InputError if the sweep's folder exists and may not be numbered."""
    where = settings.storage / settings.name
    if not number_taken_names and _is_taken(where):
        raise _taken(where)


def create_folder(
    settings: SweepSettings, *, number_taken_names: bool, fill: Callable[[Path], None] | None = None
) -> Path:
    """Make the sweep's folder with its settings, and what ``fill`` puts there; for a bucket, the local copy.

    It appears whole, and no other process has made it. Two drivers that begin a sweep in a bucket at the same moment
    are told apart by its lease. Raises InputError if the name is taken, or the storage cannot be written to.
    """
    more = range(2, 10_000) if number_taken_names else ()
    storage = folder_of(settings.storage / settings.name).parent
    try:
        storage.mkdir(parents=True, exist_ok=True)
        # Beside its place and so on the same file system: a rename lets it appear whole.
        made = Path(tempfile.mkdtemp(prefix=".sweep-", dir=storage))
    except OSError as error:
        raise InputError(f"storage: {storage}: cannot be written to ({error.strerror}); give another folder") from None
    mask = os.umask(0)  # which can only be read by setting it
    os.umask(mask)
    made.chmod(0o777 & ~mask)
    try:
        if fill is not None:
            fill(made)
        for name in (settings.name, *(f"{settings.name}-{number}" for number in more)):
            write_text(made / SETTINGS, dump_settings(settings.model_copy(update={"name": name})))
            if _put_in_place(made, settings.storage / name):
                return storage / name
    finally:
        shutil.rmtree(made, ignore_errors=True)
    raise _taken(settings.storage / settings.name)


def _taken(where: StorageLocation) -> InputError:
    return InputError(f"{where}: exists already; choose another --name, or remove the folder")


def _is_taken(where: StorageLocation) -> bool:
    return where.exists() if isinstance(where, Path) else is_sweep(where)


def _put_in_place(made: Path, where: StorageLocation) -> bool:
    """Let ``made`` become the folder or the local copy of the sweep at ``where``, unless there is one."""
    if _is_taken(where):
        return False
    if isinstance(where, Path):
        try:
            made.rename(where)
        except OSError:
            # Another process was faster.
            if where.exists():
                return False
            raise
        return True
    # What was left of a sweep that the bucket does not have any more.
    copy = folder_of(where)
    copy.mkdir(exist_ok=True)
    with idle(copy) as is_idle:
        if is_idle:
            empty_folder(copy)
            for path in made.iterdir():
                path.rename(copy / path.name)
        return is_idle
