"""What early stopping has saved, and what it may have cost.

Nobody knows how a stopped trial would have ended. What can be said comes from the trials of its arm that ran on: how
much they gained after the unit at which it was stopped. A stopped trial that would have beaten the winner with the
median of these gains is a likely loss, one that would have with the largest of them a possible one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that is over. ``curve`` is its validation mAP by unit; it is ``stopped`` if early stopping ended it."""

    number: int
    arm: str
    curve: Mapping[int, float]
    stopped: bool

    @property
    def units(self) -> int:
        """Units trained."""
        return max(self.curve)

    @property
    def best(self) -> float:
        """The best score."""
        return max(self.curve.values())

    def gain_after(self, unit: int) -> float | None:
        """By how much the best score exceeds that of the first ``unit`` units; None if one of them is not known."""
        if self.units <= unit or min(self.curve) > unit:
            return None
        return self.best - max(score for at, score in self.curve.items() if at <= unit)


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


def early_stopping_regret(trials: Sequence[FinishedTrial], *, budget: int, first_rung: int) -> EarlyStoppingRegret:
    """Look back at ``trials`` of ``budget`` units each, of which the first ``first_rung`` are every trial's.

    NaN scores count as none, and trials without a score are left out.
    """
    curves = [{unit: score for unit, score in trial.curve.items() if score == score} for trial in trials]
    known = [FinishedTrial(t.number, t.arm, c, t.stopped) for t, c in zip(trials, curves, strict=True) if c]
    to_beat = max((trial.best for trial in known), default=0.0)
    by_arm: dict[str, list[FinishedTrial]] = {}
    for trial in known:
        by_arm.setdefault(trial.arm, []).append(trial)
    return EarlyStoppingRegret(
        tuple(_one(name, found, first_rung=first_rung, to_beat=to_beat) for name, found in by_arm.items()),
        units=sum(trial.units for trial in known),
        units_saved=sum(budget - trial.units for trial in known if trial.stopped),
    )


def _one(name: str, trials: Sequence[FinishedTrial], *, first_rung: int, to_beat: float) -> ArmRegret:
    stopped = [trial for trial in trials if trial.stopped]
    gains = {t.number: [g for other in trials if (g := other.gain_after(t.units)) is not None] for t in stopped}

    def winners(gain: Callable[[list[float]], float]) -> tuple[int, ...]:
        return tuple(t.number for t in stopped if gains[t.number] and t.best + gain(gains[t.number]) > to_beat)

    return ArmRegret(
        arm=name,
        trials=len(trials),
        finished=len(trials) - len(stopped),
        lost_at_first_rung=sum(trial.units <= first_rung for trial in stopped),
        likely=winners(median),
        possible=winners(max),
        untold=sum(not found for found in gains.values()),
    )
