"""Which saved states are kept: those of running trials, and those of the best that are over."""

from tune_jobs.scheduling.limits import GIB, best_over, disk_wanted
from tune_jobs.state.trials import Records, TrialRecord


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
