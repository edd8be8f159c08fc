"""Where a sweep's results go."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.runs import write_text
from tune_jobs.settings import SETTINGS, SweepSettings, dump_settings


def resolved(settings: SweepSettings, *, in_ray_job: bool) -> SweepSettings:
    """The settings with absolute paths; raises InputError for a Ray job whose storage would vanish with it."""
    if in_ray_job and not settings.storage.is_absolute():
        raise InputError(
            f"storage: '{settings.storage}' would lie in the job's own folder, which Ray deletes; "
            "give an absolute path that the whole cluster shares, as in --set storage=/shared/runs"
        )
    data = settings.data
    if isinstance(data, PreparedData):
        data = data.model_copy(update={"folder": data.folder.expanduser().resolve()})
    storage, other = settings.storage.expanduser().resolve(), settings.warm_start
    other = None if other is None else sweep_folder(other, storage)
    return settings.model_copy(update={"storage": storage, "data": data, "warm_start": other})


def sweep_folder(given: Path, storage: Path) -> Path:
    """The folder of a sweep that is ``given`` by its path, or by its name in ``storage``."""
    folder = given.expanduser().resolve()
    return folder if (folder / SETTINGS).is_file() else storage / given


def refuse_unknown_sweep(folder: Path, *, option: str) -> None:
    """Raise InputError, which names ``option``, where ``folder`` is no sweep's."""
    if not (folder / SETTINGS).is_file():
        raise InputError(f"{option}: {folder} is no sweep's folder; give the path of one, or its name in the storage")


def refuse_taken_name(settings: SweepSettings, *, number_taken_names: bool) -> None:
    """Raise InputError where the sweep's folder exists and may not be numbered."""
    folder = settings.storage / settings.name
    if folder.exists() and not number_taken_names:
        raise InputError(f"{folder}: exists already; choose another --name, or remove the folder")


def create_folder(
    settings: SweepSettings, *, number_taken_names: bool, fill: Callable[[Path], None] | None = None
) -> Path:
    """Make the sweep's folder with its settings, and what ``fill`` puts there.

    It appears whole, and no other process has made it.
    """
    names = [settings.name]
    if number_taken_names:
        names += [f"{settings.name}-{number}" for number in range(2, 10_000)]
    settings.storage.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".sweep-", dir=settings.storage))
    made.chmod(0o777 & ~_umask())
    try:
        if fill is not None:
            fill(made)
        for name in names:
            write_text(made / SETTINGS, dump_settings(settings.model_copy(update={"name": name})))
            if _renamed(made, settings.storage / name):
                return settings.storage / name
    finally:
        shutil.rmtree(made, ignore_errors=True)
    raise InputError(f"{settings.storage / settings.name}: exists already; choose another --name, or remove the folder")


def _renamed(made: Path, wanted: Path) -> bool:
    """Give ``made`` its name unless that is taken."""
    if wanted.exists():
        return False
    try:
        made.rename(wanted)
    except OSError:
        if wanted.exists():
            return False
        raise
    return True


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
