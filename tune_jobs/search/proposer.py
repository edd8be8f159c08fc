"""What a sweep tries next: a function of its settings, its seed and the trials so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from optuna.trial import FrozenTrial

from search_spaces.joint import Draft
from tune_jobs.config.search import Allocation, SamplerKind, Search
from tune_jobs.search.bandit import drawn, fewest, most_promising
from tune_jobs.search.samplers import Sampling
from tune_jobs.search.trial_views import History, strategy_of
from tune_jobs.state.objectives import directions

ORIGIN = "origin"
"""The user attribute of every trial that says why it was tried: ``default``, ``point 0`` and so on, ``sampled``."""
DEFAULT, SAMPLED = "default", "sampled"
LEAST_STARTUP = 3
"""Finished trials of a strategy that a sampler waits for, however many strategies share ``startup_trials``."""
BLIND_TO_STOPPED = (SamplerKind.GP, SamplerKind.CMAES)
"""Samplers that look at finished trials only."""


@dataclass(frozen=True)
class Plan:
    """What to try, why, and what the sampler wants to find again with the trial."""

    draft: Draft
    origin: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        """Name of the strategy."""
        return self.draft.strategy.name


class Planner:
    """Every strategy's default first, then the user's points, then what the sampler suggests."""

    def __init__(
        self, search: Search, *, strategies: Sequence[str], seed: int, learned: Sequence[FrozenTrial] = ()
    ) -> None:
        """``learned`` are finished trials from elsewhere, which the sampler may learn from."""
        self.space = search.space(strategies)
        self.searchable = self.space.searchable()
        defaults = [Plan(self.space.default(name), DEFAULT) for name in strategies]
        points = [Plan(draft, point_origin(place)) for place, draft in enumerate(search.drafts(strategies))]
        self._untried = [*defaults, *points]
        self._allocation = search.allocation
        everything = Sampling(search.sampler, seed, search.startup_trials, directions(search.objectives))
        share = max(LEAST_STARTUP, ceil(search.startup_trials / max(1, len(self.searchable))))
        self._inside = replace(everything, startup=min(share, search.startup_trials))
        random = search.sampler is SamplerKind.RANDOM
        self._across = replace(everything, kind=SamplerKind.RANDOM if random else SamplerKind.TPE)
        self._history = History(self.searchable, learned=learned, stopped_count=search.sampler in BLIND_TO_STOPPED)

    def next(self, trials: Sequence[FrozenTrial]) -> Plan | None:
        """What to try after ``trials``; None where there is nothing left."""
        if self._untried:
            tried = {(trial.user_attrs[ORIGIN], strategy_of(trial)) for trial in trials}
            self._untried = [plan for plan in self._untried if (plan.origin, plan.strategy) not in tried]
        if self._untried:
            return self._untried[0]
        return self._sampled(trials) if self.searchable else None

    def _sampled(self, trials: Sequence[FrozenTrial]) -> Plan:
        number = len(trials)
        strategy = self._choose(trials, number)
        suggestion = self._inside.suggestion(self._history.inside(strategy, trials), number)
        return Plan(self.space.draw(strategy, suggestion), SAMPLED, suggestion.attributes)

    def _choose(self, trials: Sequence[FrozenTrial], number: int) -> str:
        if len(self.searchable) == 1:
            return self.searchable[0]
        if self._allocation is Allocation.EQUAL:
            return fewest(self.searchable, self._history.tally(trials))
        if len(self._across.directions) == 1:
            return most_promising(self.searchable, self._history.tally(trials))
        return drawn(self.searchable, self._across.suggestion(self._history.across(trials), number))


def point_origin(place: int) -> str:
    """The origin of trials of the point to try at ``place`` in the settings, counted from 0."""
    return f"point {place}"
