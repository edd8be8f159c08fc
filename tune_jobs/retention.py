"""Which saved states are kept: those of running trials, and those of the best that are over."""

import shutil
from pathlib import Path

from handclip_core.runs import LOG
from tune_jobs.limits import GIB, disk_wanted
from tune_jobs.records import Records, TrialRecord


def surplus(records: Records, *, keep: int, disk_gib: float | None) -> list[TrialRecord]:
    """Trials that are over and whose weights are to go: all but the ``keep`` best, or fewer where the disk is small.

    The best trial's stay even where they alone fill ``disk_gib``, as do those of trials that will go on.
    """
    over = [record for record in records.holding() if record.status.over]
    good = sorted((record for record in over if record.judged), key=lambda record: (-record.map, record.number))
    kept = good[:keep]
    others = [record for record in records.holding() if not record.status.over]
    while disk_gib is not None and len(kept) > 1 and disk_wanted([*others, *kept], records) > disk_gib * GIB:
        kept.pop()
    return [record for record in over if record not in kept]


def drop_weights(checkpoint: Path) -> None:
    """Delete all files of a saved state but its training log; what is gone already may be gone."""
    if checkpoint.is_dir():
        for path in checkpoint.iterdir():
            if path.name != LOG and path.is_file():
                path.unlink(missing_ok=True)


def drop_state(checkpoint: Path) -> None:
    """Delete a saved state that a newer one has replaced."""
    shutil.rmtree(checkpoint, ignore_errors=True)


def size_of(checkpoint: Path) -> int:
    """Bytes of the files of a saved state."""
    return sum(path.stat().st_size for path in checkpoint.iterdir() if path.is_file())
