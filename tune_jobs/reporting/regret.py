"""What early stopping has saved, and what it may have cost.

Nobody knows how a stopped trial would have ended. What can be said comes from the trials of its arm that ran on: how
much they gained after the unit at which it was stopped. A stopped trial that would have beaten the winner with the
median of these gains is a likely loss, one that would have with the largest of them a possible one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import by_arm

Curve = Mapping[int, float]
"""The validation metric of a trial by unit."""


@dataclass(frozen=True)
class ArmRegret:
    """What early stopping did to one arm. Trials are given by number, or counted."""

    arm: str
    trials: int
    finished: int
    """Trials that used their whole budget."""
    lost_at_first_rung: int
    likely: tuple[int, ...]
    """Stopped trials that would have won with the median gain of those that ran on."""
    possible: tuple[int, ...]
    """Stopped trials that would have won with the largest gain; the likely ones are among them."""
    untold: int
    """Stopped trials that no other trial of the arm outlasted, so that nothing is known of what followed."""

    @property
    def lost_all(self) -> bool:
        """Whether no trial came past the first rung."""
        return self.lost_at_first_rung == self.trials

    def lines(self) -> list[str]:
        """What may have been lost, in words; nothing if nothing may."""
        name, told = self.arm, []
        if self.lost_all:
            told.append(f"{name}: all {self.trials} trials were stopped at the first rung; it may be a slow starter")
        if self.possible:
            likely = f", {len(self.likely)} of them likely" if self.likely else ""
            numbers = f"trial{'s' if len(self.possible) > 1 else ''} {', '.join(map(str, self.possible))}"
            told.append(f"{name}: {numbers} might have won without early stopping{likely}")
        if self.untold:
            told.append(f"{name}: nothing ran on past {self.untold} stopped trials, so their curves cannot tell")
        return told


@dataclass(frozen=True)
class EarlyStoppingRegret:
    """What early stopping did to a sweep, arm by arm in the order of their first trials."""

    arms: tuple[ArmRegret, ...]
    units: int
    """Units trained."""
    units_saved: int
    """Units that the stopped trials would have trained beside these."""

    def lines(self) -> list[str]:
        """What it saved and what it may have cost, in words, and a line an arm that lost anything."""
        stopped = sum(one.trials - one.finished for one in self.arms)
        if not stopped:
            return ["early stopping ended no trial"]
        trials, possible = sum(o.trials for o in self.arms), sum(len(o.possible) for o in self.arms)
        nothing = "none of them would have won, as far as curves tell"
        lost = f"{possible} of them might have won" if possible else nothing
        share = self.units_saved / (self.units + self.units_saved)
        summary = f"early stopping ended {stopped} of {trials} trials and saved {share:.0%} of the units; {lost}"
        return [summary, *(line for one in self.arms for line in one.lines())]


def early_stopping_regret(trials: Sequence[TrialView], *, budget: int, first_rung: int) -> EarlyStoppingRegret:
    """Look back at ``trials`` of ``budget`` units each, of which the first ``first_rung`` are every trial's.

    NaN scores count as none; trials that trained nothing, failed, are not over, or have no score are left out.
    """
    trained = [view for view in trials if view.status in (Status.COMPLETE, Status.STOPPED) and view.unit]
    curves = {view.number: {at: score for at, score in view.curve.items() if score == score} for view in trained}
    known = [view for view in trained if curves[view.number]]
    to_beat = max((max(curves[view.number].values()) for view in known), default=0.0)
    return EarlyStoppingRegret(
        tuple(_one(arm, found, curves, first_rung=first_rung, to_beat=to_beat) for arm, found in by_arm(known).items()),
        units=sum(max(curves[view.number]) for view in known),
        units_saved=sum(budget - max(curves[view.number]) for view in known if view.status is Status.STOPPED),
    )


def _one(
    arm: str, trials: Sequence[TrialView], curves: Mapping[int, Curve], *, first_rung: int, to_beat: float
) -> ArmRegret:
    stopped = {view.number: curves[view.number] for view in trials if view.status is Status.STOPPED}
    others = [curves[view.number] for view in trials]
    gains = {
        number: [gain for other in others if (gain := _gain_after(max(curve), other)) is not None]
        for number, curve in stopped.items()
    }

    def winners(gain: Callable[[list[float]], float]) -> tuple[int, ...]:
        return tuple(n for n, curve in stopped.items() if gains[n] and max(curve.values()) + gain(gains[n]) > to_beat)

    return ArmRegret(
        arm=arm,
        trials=len(trials),
        finished=len(trials) - len(stopped),
        lost_at_first_rung=sum(max(curve) <= first_rung for curve in stopped.values()),
        likely=winners(median),
        possible=winners(max),
        untold=sum(not found for found in gains.values()),
    )


def _gain_after(unit: int, curve: Curve) -> float | None:
    """By how much the best score exceeds that of the first ``unit`` units; None if one of them is not known."""
    if max(curve) <= unit or min(curve) > unit:
        return None
    return max(curve.values()) - max(score for at, score in curve.items() if at <= unit)
