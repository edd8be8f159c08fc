"""Finding a sweep that is to be taken up again or forked, and agreeing with it on its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handclip_core.errors import InputError
from tune_jobs.config.settings import QUICKSTART, SETTINGS, SweepSettings, load_settings, with_overrides
from tune_jobs.lifecycle.folders import is_sweep, refuse_unknown_sweep, resolved, stored_settings, sweep_folder
from tune_jobs.storage.location import Bucket, Place, folder_of, named_place

MAY_CHANGE = ("limits", "resources", "retries", "stall_minutes", "keep_checkpoints", "checkpoint_every_s")
"""Settings that a sweep may be resumed with other values of: no trial's result depends on them."""
PLACE = ("name", "storage")
"""Settings that say where the sweep is, not what."""


@dataclass(frozen=True)
class Reopened:
    """A sweep's folder or working copy, and the settings with which it goes on."""

    folder: Path
    settings: SweepSettings


def reopen(file: Place | None, *, name: str | None, overrides: Sequence[str], extend: int | None = None) -> Reopened:
    """The sweep that a command line names: by its folder or URI, by its settings file, or by ``name`` alone.

    With ``extend`` it gets so many trials more. Raises InputError where there is no such sweep, and where the settings
    differ from those it began with in anything that its results depend on.
    """
    if isinstance(file, Bucket):
        file.parent.check()
        return _agreed(file, None, overrides, extend)
    if file is not None and file.is_dir():
        return _agreed(file.resolve(), None, overrides, extend)
    changes = [item for item in overrides if item.startswith("storage=")] if file is None else overrides
    wanted = resolved(load_settings(file or QUICKSTART, overrides=changes, name=name), in_ray_job=False)
    where = wanted.storage / wanted.name
    if file is None:
        return _agreed(where, None, [item for item in overrides if item not in changes], extend)
    return _agreed(where, wanted, overrides, extend)


def forked_settings(other: Place, *, name: str | None, overrides: Sequence[str]) -> Reopened:
    """The sweep ``other``, by its folder or by its name in the storage, and its settings with ``overrides``.

    Raises InputError where there is no such sweep, and for sweeps in buckets.
    """
    places = [item.partition("=")[2] for item in overrides if item.startswith("storage=")]
    storage = named_place(places[-1] if places else "runs")
    if isinstance(other, Bucket) or isinstance(storage, Bucket):
        raise InputError("--fork: works on sweeps in folders only; --warm-start learns from one in a bucket")
    folder = sweep_folder(other, storage.expanduser().resolve())
    assert isinstance(folder, Path)
    refuse_unknown_sweep(folder, option="--fork")
    renamed = [] if name is None else [f"name={name}"]
    changed = with_overrides(stored_settings(folder), [*overrides, *renamed], source=f"{folder / SETTINGS} with --set")
    return Reopened(folder, changed)


def _agreed(where: Place, wanted: SweepSettings | None, overrides: Sequence[str], extend: int | None) -> Reopened:
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep to take up again; leave out --resume to begin one")
    # The study goes by the sweep's first name, whatever the folder is called now.
    stored = stored_settings(where)
    wanted = with_overrides(stored, overrides, source=f"{where / SETTINGS} with --set") if wanted is None else wanted
    _refuse_differences(where, stored, wanted)
    changed: dict[str, Any] = {key: getattr(wanted, key) for key in MAY_CHANGE}
    if extend is not None:
        changed["trials"] = stored.trials + extend
    return Reopened(folder_of(where), stored.model_copy(update=changed))


def _refuse_differences(where: Place, stored: SweepSettings, wanted: SweepSettings) -> None:
    before, after = (_flat(settings.model_dump(mode="json")) for settings in (stored, wanted))
    keys = [key for key in {**before, **after} if key.partition(".")[0] not in (*MAY_CHANGE, *PLACE)]
    differ = [key for key in keys if before.get(key) != after.get(key)]
    if not differ:
        return
    told = ", ".join(f"{key} {before.get(key, 'unset')} is now {after.get(key, 'unset')}" for key in differ[:3])
    mend = "--extend adds trials" if differ == ["trials"] else "--fork begins another sweep from it"
    raise InputError(f"{where}: began with other settings ({told}); resume it with its own, or {mend}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
