"""A look back at early stopping: which strategies lost all their trials at the first rung, and what that may have cost.

Nobody knows how a stopped trial would have ended. What can be said comes from the trials of its strategy that ran on:
how much they gained after the unit at which it was stopped. A stopped trial that would have beaten the winner with the
median of these gains is a likely loss, one that would have with the largest of them a possible one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that is over and has scores. ``curve`` is its validation mAP by unit."""

    number: int
    strategy: str
    curve: Mapping[int, float]
    stopped: bool
    """Whether early stopping ended it."""

    @property
    def units(self) -> int:
        """Units trained."""
        return max(self.curve)

    def best_after(self, unit: int) -> float:
        """The best score in the first ``unit`` units."""
        return max(score for at, score in self.curve.items() if at <= unit)

    @property
    def best(self) -> float:
        """The best score."""
        return self.best_after(self.units)


@dataclass(frozen=True)
class StrategyRegret:
    """What early stopping did to one strategy."""

    strategy: str
    trials: int
    finished: int
    """Trials that used their whole budget."""
    lost_at_first_rung: int
    likely: tuple[int, ...]
    """Stopped trials that would have won with the median gain of those that ran on."""
    possible: tuple[int, ...]
    """Stopped trials that would have won with the largest gain; the likely ones are among them."""
    untold: int
    """Stopped trials that no other trial of the strategy outlasted, so that nothing is known of what followed."""

    @property
    def lost_all(self) -> bool:
        """Whether no trial came past the first rung."""
        return self.lost_at_first_rung == self.trials


@dataclass(frozen=True)
class EarlyStoppingRegret:
    """What early stopping did to a sweep."""

    strategies: tuple[StrategyRegret, ...]
    """In the order of their first trials."""
    units: int
    """Units trained."""
    units_saved: int
    """Units that the stopped trials would have trained beside these."""

    def lines(self) -> list[str]:
        """The look back in words: what it saved, what it may have cost, and a line a strategy that lost anything."""
        stopped = sum(one.trials - one.finished for one in self.strategies)
        if not stopped:
            return ["early stopping ended no trial"]
        trials = sum(one.trials for one in self.strategies)
        possible = sum(len(one.possible) for one in self.strategies)
        lost = (
            f"{possible} of them might have won" if possible else "none of them would have won, as far as curves tell"
        )
        share = self.units_saved / (self.units + self.units_saved)
        summary = f"early stopping ended {stopped} of {trials} trials and saved {share:.0%} of the units; {lost}"
        return [summary, *(line for one in self.strategies for line in _told(one))]


def early_stopping_regret(trials: Sequence[FinishedTrial], *, budget: int, first_rung: int) -> EarlyStoppingRegret:
    """Look back at ``trials`` of ``budget`` units each, of which the first ``first_rung`` are every trial's.

    NaN scores count as none, and trials without a score are left out.
    """
    known = [trial for trial in map(_without_nan, trials) if trial.curve]
    to_beat = max((trial.best for trial in known), default=0.0)
    names = dict.fromkeys(trial.strategy for trial in known)
    by_strategy = {name: [trial for trial in known if trial.strategy == name] for name in names}
    return EarlyStoppingRegret(
        tuple(_one(found, first_rung=first_rung, to_beat=to_beat) for found in by_strategy.values()),
        units=sum(trial.units for trial in known),
        units_saved=sum(budget - trial.units for trial in known if trial.stopped),
    )


def _told(one: StrategyRegret) -> list[str]:
    told = []
    if one.lost_all:
        told.append(f"{one.strategy}: all {one.trials} trials were stopped at the first rung; it may be a slow starter")
    if one.possible:
        likely = f", {len(one.likely)} of them likely" if one.likely else ""
        names = ", ".join(map(str, one.possible))
        told.append(f"{one.strategy}: trial {names} might have won without early stopping{likely}")
    if one.untold:
        told.append(f"{one.strategy}: nothing ran on past {one.untold} stopped trials, so their curves cannot tell")
    return told


def _one(trials: Sequence[FinishedTrial], *, first_rung: int, to_beat: float) -> StrategyRegret:
    stopped = [trial for trial in trials if trial.stopped]
    gains = {trial.number: _gains(trials, after=trial.units) for trial in stopped}
    return StrategyRegret(
        strategy=trials[0].strategy,
        trials=len(trials),
        finished=len(trials) - len(stopped),
        lost_at_first_rung=sum(trial.units <= first_rung for trial in stopped),
        likely=_winners(stopped, {n: median(found) for n, found in gains.items() if found}, to_beat),
        possible=_winners(stopped, {n: max(found) for n, found in gains.items() if found}, to_beat),
        untold=sum(not found for found in gains.values()),
    )


def _gains(trials: Sequence[FinishedTrial], *, after: int) -> list[float]:
    """How much the trials that ran on gained on their best of the first ``after`` units."""
    return [
        trial.best - trial.best_after(after) for trial in trials if trial.units > after and min(trial.curve) <= after
    ]


def _winners(stopped: Sequence[FinishedTrial], gains: Mapping[int, float], to_beat: float) -> tuple[int, ...]:
    return tuple(t.number for t in stopped if t.number in gains and t.best + gains[t.number] > to_beat)


def _without_nan(trial: FinishedTrial) -> FinishedTrial:
    curve = {unit: score for unit, score in trial.curve.items() if score == score}
    return FinishedTrial(trial.number, trial.strategy, curve, trial.stopped)
