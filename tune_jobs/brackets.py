"""Asynchronous successive halving with rungs of its own for every group of trials: pure bookkeeping."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Rungs = dict[int, dict[str, float]]


@dataclass
class RungTable:
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

    def report(self, *, group: str, trial: str, unit: int, score: float) -> bool:
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

    def state(self) -> dict[str, Any]:
        """The scores as plain data that JSON can hold."""
        return {group: {str(unit): dict(seen) for unit, seen in rungs.items()} for group, rungs in self.scores.items()}

    def load(self, state: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Take the scores of ``state`` back."""
        self.scores = {group: {int(unit): dict(seen) for unit, seen in rungs.items()} for group, rungs in state.items()}

    def _rung(self, group: str, unit: int) -> dict[str, float]:
        return self.scores.setdefault(group, {}).setdefault(unit, {})

    def _passes(self, group: str, unit: int, trial: str) -> bool:
        seen = self._rung(group, unit)
        own = seen[trial]
        if math.isnan(own):
            return False
        better = sum(score > own for score in seen.values())
        return better * self.reduction < len(seen)
