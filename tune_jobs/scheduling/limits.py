"""Limits of a sweep: hours, GPU-hours and disk; and which saved states are kept."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tune_jobs.config.settings import Limits
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials
from tune_jobs.state.usage import HOUR_S

GIB = 2**30


@dataclass
class LimitCheck:
    """Says when the sweep has to end before its last trial."""

    limits: Limits
    all_trials: Trials
    clock: Callable[[], float] = time.time
    shut: str | None = None
    """The limit at which a running trial was cut short: from then on none is begun, however short its units."""

    def closed(self, *, ahead_s: float, more: int = 0) -> str | None:
        """The limit that another ``ahead_s`` seconds of all that runs, and ``more`` trials, would pass; else None."""
        limits, usage = self.limits, self.all_trials.usage
        seconds, gpu_seconds = usage.until(self.clock())
        if limits.hours is not None and seconds + ahead_s > limits.hours * HOUR_S:
            return f"limits.hours: {limits.hours:g}"
        ahead_gpu_s = ahead_s * usage.gpus_each * (len(usage.running) + more)
        if limits.gpu_hours is not None and gpu_seconds + ahead_gpu_s > limits.gpu_hours * HOUR_S:
            return f"limits.gpu_hours: {limits.gpu_hours:g}"
        if limits.disk_gib is not None:
            # What may not be deleted must leave room for the next states of running trials.
            going_on = [view for view in self.all_trials.holding() if not view.status.over]
            needed = disk_needed([*going_on, *best_over(self.all_trials)[:1]], self.all_trials, more=more)
            if needed > limits.disk_gib * GIB:
                return f"limits.disk_gib: {limits.disk_gib:g}"
        return None

    def cuts(self, *, ahead_s: float) -> bool:
        """Whether a running trial has to end before its next unit of ``ahead_s`` seconds; then no other is begun."""
        reason = self.closed(ahead_s=ahead_s)
        self.shut = self.shut or reason
        return reason is not None

    def closed_to_new_trials(self) -> str | None:
        """The limit that a unit of another trial would pass, by the time that units have taken on average."""
        return self.shut or self.closed(ahead_s=self.all_trials.usage.unit_s, more=1)


def best_over(all_trials: Trials) -> list[TrialView]:
    """Trials with a saved state that are over and have a score, the best first, the earlier of equals first.

    Final fits, which have none, come before all.
    """
    good = [view for view in all_trials.holding() if view.status.over and (view.has_score or view.is_final_fit)]
    return sorted(good, key=lambda view: (not view.is_final_fit, 0 if view.is_final_fit else -view.score, view.number))


def disk_needed(holding: Iterable[TrialView], all_trials: Trials, *, more: int = 0) -> int:
    """Bytes of the states of ``holding`` and of the next ones of the trials that run, or are about to: ``more``."""
    sizes = [view.held_bytes for view in holding]
    return sum(sizes) + max(sizes, default=0) * max(1, len(all_trials.usage.running) + more)


def checkpoints_to_drop(all_trials: Trials, *, keep: int, disk_gib: float | None) -> list[TrialView]:
    """Trials that are over and whose weights are to go: all but the ``keep`` best, or fewer if the disk is small.

    The best trial's stay even if they alone fill ``disk_gib``, as do those of trials that will go on.
    """
    over = [view for view in all_trials.holding() if view.status.over]
    others = [view for view in all_trials.holding() if not view.status.over]
    kept = best_over(all_trials)[:keep]
    while disk_gib is not None and len(kept) > 1 and disk_needed([*others, *kept], all_trials) > disk_gib * GIB:
        kept.pop()
    return [view for view in over if view not in kept]
