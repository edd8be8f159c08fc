"""Asynchronous successive halving with rungs of its own for every group of trials: pure bookkeeping."""

import math
from dataclasses import dataclass, field

Rungs = dict[int, dict[int, float]]


@dataclass
class AshaRungs:
    """Scores of trials at rungs, group by group (the stopping variant of ASHA, Li 2020, arXiv 1810.05934).

    Rungs stand at ``grace`` units, ``grace * reduction``, and so on below ``budget``. A trial goes on after a rung
    where fewer than n / reduction scores are better, among the n that the rung has seen of its group, its own included;
    so a group's first trial always does. Groups keep slow starters of one strategy from being judged by fast starters
    of another.
    """

    grace: int
    reduction: int
    budget: int
    scores: dict[str, Rungs] = field(default_factory=dict)
    """By group, rung unit and trial."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """The units at which trials are judged, ascending."""
        units = []
        unit = self.grace
        while unit < self.budget:
            units.append(unit)
            unit *= self.reduction
        return tuple(units)

    def report(self, *, group: str, trial: int, unit: int, score: float) -> bool:
        """Note ``score`` of ``trial`` after ``unit`` units; whether the trial goes on.

        Units of a trial come in ascending order. A rung that a report has passed over takes this report's score; a
        rung that already knows the trial, as after a restart from a checkpoint, keeps what it knows. NaN is the worst
        score and ends the trial at a rung.
        """
        reached = [rung for rung in self.rungs if rung <= unit]
        new = [rung for rung in reached if trial not in self._rung(group, rung)]
        for rung in new:
            self._rung(group, rung)[trial] = score
        return all(self._passes(group, rung, trial) for rung in new)

    def _rung(self, group: str, unit: int) -> dict[int, float]:
        return self.scores.setdefault(group, {}).setdefault(unit, {})

    def _passes(self, group: str, unit: int, trial: int) -> bool:
        seen = self._rung(group, unit)
        own = seen[trial]
        if math.isnan(own):
            return False
        better = sum(score > own for score in seen.values())
        return better * self.reduction < len(seen)
