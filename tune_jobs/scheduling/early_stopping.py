"""Early stopping: which trials go on after a unit. Each decision is taken once and kept."""

import math
from dataclasses import dataclass, field
from statistics import median

from tune_jobs.config.settings import EarlyStopping, StoppingKind
from tune_jobs.state.events import Event, Validated
from tune_jobs.state.trials import Trials

EVERYONE = "everyone"
"""The one group of rules that compare all trials with each other."""
Rungs = dict[int, dict[int, float]]


@dataclass
class AshaRungs:
    """Scores of trials at rungs, group by group (the stopping variant of ASHA, Li 2020, arXiv 1810.05934).

    Rungs stand at ``grace`` units, ``grace * reduction``, and so on below ``budget``. A trial goes on after a rung if
    fewer than n / reduction scores are better, among the n that the rung has seen of its group, its own included.
    """

    grace: int
    reduction: int
    budget: int
    scores: dict[str, Rungs] = field(default_factory=dict)
    """By group, rung unit and trial."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """The units at which trials are judged, ascending."""
        units, unit = [], self.grace
        while unit < self.budget:
            units.append(unit)
            unit *= self.reduction
        return tuple(units)

    def report(self, *, group: str, trial: int, unit: int, score: float) -> bool:
        """Note ``score`` of ``trial`` after ``unit`` units, more than before; whether the trial goes on.

        A rung that a report has passed over takes its score; a rung that knows the trial keeps what it knows. NaN is
        the worst score and ends the trial at a rung.
        """
        group_rungs = self.scores.setdefault(group, {})
        new = [rung for rung in self.rungs if rung <= unit and trial not in group_rungs.setdefault(rung, {})]
        for rung in new:
            group_rungs[rung][trial] = score
        return all(self._passes(group_rungs[rung], score) for rung in new)

    def _passes(self, seen: dict[int, float], own: float) -> bool:
        better = sum(score > own for score in seen.values())
        # NaN is above and below nothing, so it would pass as the best.
        return not math.isnan(own) and better * self.reduction < len(seen)


@dataclass
class MedianRule:
    """Stops a trial whose best score is below the median of its group (Golovin 2017, section 3.2).

    A trial is compared, from ``grace`` units on, with the running averages of the others' scores up to the same unit,
    once there are ``others`` of them.
    """

    grace: int
    others: int = 3
    sums: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Sum and number of scores by trial."""
    averages: dict[str, dict[int, dict[int, float]]] = field(default_factory=dict)
    """By group, unit and trial."""

    def report(self, *, group: str, trial: int, unit: int, score: float) -> bool:
        """Note ``score`` of ``trial`` after ``unit`` units; whether the trial goes on. NaN ends it."""
        total, count = self.sums.get(trial, (0.0, 0))
        self.sums[trial] = total + score, count + 1
        at_unit = self.averages.setdefault(group, {}).setdefault(unit, {})
        # Before the own average joins them.
        rivals = [average for average in at_unit.values() if not math.isnan(average)]
        at_unit[trial] = (total + score) / (count + 1)
        if unit < self.grace:
            return True
        return score >= median(rivals) if len(rivals) >= self.others else not math.isnan(score)


@dataclass
class StoppingDecisions:
    """A rule and what it has decided, so that units that are trained again are judged once."""

    rule: AshaRungs | MedianRule
    per_arm: bool
    """Whether a trial is compared with trials of its own strategy on its own backbone alone."""
    stopped: dict[int, int] = field(default_factory=dict)
    """Trials that may not go on, and after how many units that was."""
    exempt: set[int] = field(default_factory=set)
    """Trials that go on whatever the rule says."""
    _seen: dict[int, int] = field(default_factory=dict)

    def goes_on(self, *, trial: int, arm: str, unit: int, score: float) -> bool:
        """Whether ``trial`` goes on after ``unit`` units with ``score``, the best so far."""
        if unit > self._seen.get(trial, -1) and trial not in self.stopped:
            self._seen[trial] = unit
            group = arm if self.per_arm else EVERYONE
            passes = self.rule.report(group=group, trial=trial, unit=unit, score=score)
            if not passes and trial not in self.exempt:
                self.stopped[trial] = unit
        # A unit that is trained again after a restart may lie before the one that stopped the trial.
        return trial not in self.stopped or unit < self.stopped[trial]

    def replay(self, event: Event, all_trials: Trials) -> None:
        """Decide again what was decided when ``event`` happened."""
        if isinstance(event, Validated) and not event.done and event.replica == 0:
            view = all_trials.trials[event.trial]
            score = view.score_of(event.best)
            self.goes_on(trial=event.trial, arm=view.arm, unit=event.unit, score=score)


def decisions_for(stopping: EarlyStopping, *, budget: int) -> StoppingDecisions:
    """Those of a sweep at its beginning; without early stopping there are no rungs to fall behind at."""
    if stopping.kind is StoppingKind.MEDIAN:
        return StoppingDecisions(MedianRule(grace=stopping.grace), per_arm=True)
    grace = budget if stopping.kind is StoppingKind.NONE else stopping.grace
    table = AshaRungs(grace=grace, reduction=stopping.reduction, budget=budget)
    return StoppingDecisions(table, per_arm=stopping.kind is StoppingKind.PER_STRATEGY)
