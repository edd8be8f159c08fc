"""Finding a sweep that is to be taken up again or forked, and agreeing with it on its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handclip_core.documents import parse_yaml
from handclip_core.errors import InputError
from tune_jobs.config.changes import changeable
from tune_jobs.config.settings import QUICKSTART, SETTINGS, SweepSettings, load_settings, with_overrides
from tune_jobs.lifecycle.fitting import fitted
from tune_jobs.lifecycle.folders import is_sweep, refuse_unknown_sweep, resolved, stored_settings, sweep_folder
from tune_jobs.state.local_copy import last_settings
from tune_jobs.storage.location import BucketLocation, StorageLocation, folder_of, parse_location


@dataclass(frozen=True)
class Reopened:
    """A sweep's folder or local copy, and the settings with which it goes on."""

    folder: Path
    settings: SweepSettings


def reopen(
    file: StorageLocation | None, *, name: str | None, overrides: Sequence[str], extend: int | None = None
) -> Reopened:
    """The sweep that a command line names: by its folder or URI, by its settings file, or by ``name`` alone.

    With ``extend`` it gets so many trials more. Raises InputError if there is no such sweep, or if the settings differ
    from those it began with in anything that its results depend on.
    """
    if isinstance(file, BucketLocation):
        file.parent.check()
        return _agreed(file, None, overrides, extend)
    if file is not None and file.is_dir():
        return _agreed(file.resolve(), None, overrides, extend)
    # A name alone is looked for in the storage; other changes are to the sweep's own settings.
    changes = [item for item in overrides if item.startswith("storage=")] if file is None else overrides
    wanted = resolved(load_settings(file or QUICKSTART, overrides=changes, name=name), in_ray_job=False)
    where = wanted.storage / wanted.name
    if file is None:
        return _agreed(where, None, [item for item in overrides if item not in changes], extend)
    return _agreed(where, wanted, overrides, extend)


def forked_settings(other: StorageLocation, *, name: str | None, overrides: Sequence[str]) -> Reopened:
    """The sweep ``other``, by its folder or by its name in the storage, and its settings with ``overrides``.

    Raises InputError if there is no such sweep, and for sweeps in buckets.
    """
    places = [item.partition("=")[2] for item in overrides if item.startswith("storage=")]
    try:
        storage = parse_location(str(parse_yaml(places[-1], source="--set storage")) if places else "runs")
    except InputError as error:
        raise InputError(f"storage: {error}") from None
    if isinstance(other, BucketLocation) or isinstance(storage, BucketLocation):
        raise InputError("--fork: works on sweeps in folders only; --warm-start learns from one in a bucket")
    folder = sweep_folder(other, storage.expanduser().resolve())
    assert isinstance(folder, Path)
    refuse_unknown_sweep(folder, option="--fork")
    renamed = [] if name is None else [f"name={name}"]
    changed = with_overrides(stored_settings(folder), [*overrides, *renamed], source=f"{folder / SETTINGS} with --set")
    return Reopened(folder, changed)


def _agreed(
    where: StorageLocation, wanted: SweepSettings | None, overrides: Sequence[str], extend: int | None
) -> Reopened:
    """The sweep at ``where`` with ``wanted``, or its own settings with ``overrides``, as far as they may change."""
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep to take up again; leave out --resume to begin one")
    stored = stored_settings(where)
    wanted = with_overrides(stored, overrides, source=f"{where / SETTINGS} with --set") if wanted is None else wanted
    # The settings file can be edited; those that trials were run with are in the journal.
    last = last_settings(where)
    before = stored if last is None else SweepSettings.parse(last, source=f"the settings in the journal of {where}")
    if (wanted.strategies, wanted.search.ranges) != (before.strategies, before.search.ranges):
        wanted = fitted(wanted)
    trials = before.trials + (extend or 0)
    if extend is not None and wanted.trials == stored.trials:
        wanted = wanted.model_copy(update={"trials": before.trials})
    _refuse_differences(where, before, wanted, stored=stored)
    # The study goes by the sweep's first name, whatever the folder is called now.
    changed = {"trials": trials, "name": before.name, "storage": where.parent}
    return Reopened(folder_of(where), wanted.model_copy(update=changed))


def _refuse_differences(
    where: StorageLocation, before: SweepSettings, wanted: SweepSettings, *, stored: SweepSettings
) -> None:
    """Raise InputError if ``wanted`` would change what the trials of a sweep that ran with ``before`` mean."""
    was, kept, now = (_fixed(settings.model_dump(mode="json")) for settings in (before, stored, wanted))
    differ = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    if not differ:
        return
    told = ", ".join(f"{key} {was.get(key, 'unset')} is now {now.get(key, 'unset')}" for key in differ[:3])
    edited = any(was.get(key) != kept.get(key) for key in differ)
    own = f"set that back in {where / SETTINGS}" if edited else "resume it with its own"
    mend = "--extend adds trials" if differ == ["trials"] else "--fork begins another sweep from it"
    raise InputError(f"{where}: began with other settings ({told}); {own}, or {mend}")


def _fixed(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings that must stay as they are, by dotted keys."""
    fixed: dict[str, Any] = {}
    for name, value in values.items():
        if (key := f"{prefix}{name}") not in changeable(SweepSettings):
            fixed |= _fixed(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return fixed
