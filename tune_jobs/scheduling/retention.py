"""Which saved states are kept: those of running trials, and those of the best that are over."""

from tune_jobs.scheduling.limits import GIB, best_over, disk_needed
from tune_jobs.state.trials import Trials, TrialView


def checkpoints_to_drop(all_trials: Trials, *, keep: int, disk_gib: float | None) -> list[TrialView]:
    """Trials that are over and whose weights are to go: all but the ``keep`` best, or fewer where the disk is small.

    The best trial's stay even where they alone fill ``disk_gib``, as do those of trials that will go on.
    """
    over = [view for view in all_trials.holding() if view.status.over]
    kept = best_over(all_trials)[:keep]
    others = [view for view in all_trials.holding() if not view.status.over]
    while disk_gib is not None and len(kept) > 1 and disk_needed([*others, *kept], all_trials) > disk_gib * GIB:
        kept.pop()
    return [view for view in over if view not in kept]
