"""Which saved states are kept: those of running trials, and those of the best that are over."""

from contextlib import suppress
from pathlib import Path

from pyarrow import fs  # type: ignore[import-untyped]

from handclip_core.runs.run_folder import LOG
from tune_jobs.scheduling.limits import GIB, best_over, disk_wanted
from tune_jobs.state.trials import Records, TrialRecord
from tune_jobs.storage.location import Place, opened
from tune_jobs.storage.retry import patiently


def surplus(records: Records, *, keep: int, disk_gib: float | None) -> list[TrialRecord]:
    """Trials that are over and whose weights are to go: all but the ``keep`` best, or fewer where the disk is small.

    The best trial's stay even where they alone fill ``disk_gib``, as do those of trials that will go on.
    """
    over = [record for record in records.holding() if record.status.over]
    kept = best_over(records)[:keep]
    others = [record for record in records.holding() if not record.status.over]
    while disk_gib is not None and len(kept) > 1 and disk_wanted([*others, *kept], records) > disk_gib * GIB:
        kept.pop()
    return [record for record in over if record not in kept]


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


def remove_debris(record: TrialRecord, trial: Place) -> None:
    """Delete saved states in a trial's folder that its record does not know: a worker died before it could say so."""
    needed = {Path(state).name for state in (record.checkpoint, record.first and record.first.folder) if state}
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
