"""The saved states of trials as folders with files."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pyarrow import fs  # type: ignore[import-untyped]

from handclip_core.runs.run_folder import LOG
from tune_jobs.storage.location import StorageLocation, open_location
from tune_jobs.storage.retry import with_retry


def drop_weights(state: StorageLocation) -> None:
    """Delete all files of a saved state but its training log; what is gone already may be gone."""
    for info in _entries(state):
        if info.is_file and info.base_name != LOG:
            with suppress(FileNotFoundError):
                open_location(state).filesystem.delete_file(info.path)


def drop_state(state: StorageLocation) -> None:
    """Delete a saved state that a newer one has replaced; what cannot be deleted now stays until the next resume."""
    with suppress(OSError):
        open_location(state).filesystem.delete_dir(open_location(state).path)


def remove_stray_checkpoints(trial: StorageLocation, *, kept: Collection[str]) -> None:
    """Delete saved states in a trial's folder but those ``kept``: a worker died before it could tell of the others."""
    needed = {Path(state).name for state in kept}
    for info in with_retry(lambda: _entries(trial), path=trial):
        if not info.is_file and info.base_name.startswith("checkpoint_") and info.base_name not in needed:
            drop_state(trial / info.base_name)


def size_of(state: StorageLocation) -> int:
    """Bytes of the files of a saved state."""
    return sum(info.size for info in _entries(state) if info.is_file)


def _entries(where: StorageLocation) -> list[fs.FileInfo]:
    store = open_location(where)
    found: list[fs.FileInfo] = store.filesystem.get_file_info(fs.FileSelector(store.path, allow_not_found=True))
    return found
