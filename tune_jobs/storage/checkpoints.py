"""The saved states of trials as folders with files."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pyarrow import fs  # type: ignore[import-untyped]

from handclip_core.runs.run_folder import LOG
from tune_jobs.storage.location import Place, opened
from tune_jobs.storage.retry import patiently


def drop_weights(state: Place) -> None:
    """Delete all files of a saved state but its training log; what is gone already may be gone."""
    for info in _files(state):
        if info.base_name != LOG:
            with suppress(FileNotFoundError):
                opened(state).filesystem.delete_file(info.path)


def drop_state(state: Place) -> None:
    """Delete a saved state that a newer one has replaced; what cannot be deleted now stays until the next resume."""
    with suppress(OSError):
        opened(state).filesystem.delete_dir(opened(state).path)


def remove_debris(trial: Place, *, kept: Collection[str]) -> None:
    """Delete saved states in a trial's folder but those ``kept``: a worker died before it could tell of the others."""
    needed = {Path(state).name for state in kept}
    for name in patiently(lambda: states_in(trial), path=trial):
        if name not in needed:
            drop_state(trial / name)


def size_of(state: Place) -> int:
    """Bytes of the files of a saved state."""
    return sum(info.size for info in _files(state))


def states_in(trial: Place) -> list[str]:
    """Names of the saved states in the folder of a trial."""
    store = opened(trial)
    found = store.filesystem.get_file_info(fs.FileSelector(store.path, allow_not_found=True))
    return [info.base_name for info in found if not info.is_file and info.base_name.startswith("checkpoint_")]


def _files(state: Place) -> list[fs.FileInfo]:
    store = opened(state)
    found = store.filesystem.get_file_info(fs.FileSelector(store.path, allow_not_found=True))
    return [info for info in found if info.is_file]
