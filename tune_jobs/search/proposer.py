"""What a sweep tries next: a function of its settings, its seed and the trials so far."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from statistics import fmean
from typing import Any, Protocol

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import UNTRAINED
from search_spaces.arms import strategy_in
from search_spaces.joint import Draft
from search_spaces.suggest import Primitive
from tune_jobs.config.search import SamplerKind, StrategyBandit, maximized
from tune_jobs.config.settings import SweepSettings
from tune_jobs.search.bandit import drawn, fewest, most_promising
from tune_jobs.search.samplers import Sampling, Suggestion
from tune_jobs.search.trial_views import PastTrials, by_path, frozen_or_refused, learned
from tune_jobs.state.trials import Trials, by_arm

DEFAULT, SAMPLED = "default", "sampled"
"""Origins of trials; that of a point to try is ``point 0`` and so on."""
LEAST_S = 1e-3
"""The least that a trial is taken to cost, in seconds."""
MOST_ATTEMPTS = 20
"""Draws, at random but for the first, of a configuration that has not been tried. After so many there may be none."""
LEAST_STARTUP = 3
"""Finished trials of an arm that a sampler waits for, however many arms share ``startup_trials``."""
BLIND_TO_STOPPED = (SamplerKind.GP, SamplerKind.CMAES)
"""Samplers that use finished trials only."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run."""

    experiment: Experiment
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment: ``strategy/optim/lr``."""
    origin: str
    """Why: ``default``, ``point 0`` (the first point to try), ``sampled``, or the name of a fixed experiment."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the sampler needs to find again with the trial."""


class Proposer(Protocol):
    """What says which trial comes next."""

    def next(self, all_trials: Trials) -> Proposal | None:
        """What to try after ``all_trials``; None if there is nothing left."""
        ...


class FixedList:
    """Experiments that are all to be run, by names of their own."""

    def __init__(self, experiments: Mapping[str, Experiment], *, again: Collection[int] = ()) -> None:
        """Trials whose numbers are in ``again`` have failed before, and their experiments are tried once more."""
        self._proposals = [Proposal(experiment, {}, name) for name, experiment in experiments.items()]
        self._again = frozenset(again)

    def next(self, all_trials: Trials) -> Proposal | None:
        """The first experiment that has not been tried; None after the last one."""
        tried = {view.origin for view in all_trials.all() if view.number not in self._again}
        return next((proposal for proposal in self._proposals if proposal.origin not in tried), None)


class SearchProposer:
    """Every arm's default first, then the user's points, then what the sampler suggests."""

    def __init__(self, settings: SweepSettings) -> None:
        search, arms, seed = settings.search, settings.arms, settings.seed
        self._settings, self._search, self._bandit = settings, search, search.strategy_bandit
        self.space = settings.space
        self.searchable = self.space.searchable()
        defaults = [self._proposal(self.space.default(arm), DEFAULT) for arm in arms]
        points = [self._proposal(draft, point_origin(place)) for place, draft in search.drafts(arms, settings.task)]
        self._untried = [*defaults, *points]
        everything = Sampling(search.sampler, seed, search.startup_trials, directions(search.objectives))
        share = max(LEAST_STARTUP, ceil(search.startup_trials / max(1, len(self.searchable))))
        self._inside = replace(everything, startup=min(share, search.startup_trials))
        random = search.sampler is SamplerKind.RANDOM
        # Which arm is no number, and CMA-ES draws numbers alone.
        self._across = replace(everything, kind=SamplerKind.RANDOM if random else SamplerKind.TPE)
        # Of the trials so far, those that were looked at are not looked at again: there may be thousands.
        self._over: list[FrozenTrial] = []
        self._tried: dict[str, list[dict[str, Primitive]]] = {}
        self._num_tried = 0
        self._history: PastTrials | None = None

    def next(self, all_trials: Trials) -> Proposal | None:
        """What to try after ``all_trials``, those of the last call and later ones; None if there is nothing left."""
        if self._untried:
            # Each arm has a default, and a point may be one of several arms.
            tried = {(view.origin, view.arm) for view in all_trials.all()}
            arm_of = self._settings.arm_of
            self._untried = [one for one in self._untried if (one.origin, arm_of(one.experiment)) not in tried]
            if self._untried:
                return self._untried[0]
        return self._sampled(all_trials) if self.searchable else None

    def _sampled(self, all_trials: Trials) -> Proposal:
        if self._history is None:  # what was learned elsewhere is known before the first trial
            others = [learned(trial, self.space) for trial in all_trials.learned or ()]
            blind = self._search.sampler in BLIND_TO_STOPPED
            self._history = PastTrials(self.searchable, learned=others, stopped_count=blind)
        trials, history = self._frozen(all_trials), self._history
        number = len(trials)
        arm = self._choose(history, trials, all_trials)
        tried, past = self._params_tried(all_trials).get(arm, []), history.inside(arm, trials)
        for attempt in range(MOST_ATTEMPTS):
            # A sampler that has come to the best of few choices suggests it again and again.
            sampling = replace(self._inside, kind=SamplerKind.RANDOM) if attempt else self._inside
            suggestion = Suggestion(sampling, past, number, attempt=attempt)
            proposal = self._proposal(self.space.draw(arm, suggestion), SAMPLED, suggestion.attributes)
            if proposal.params not in tried:  # with the same seed it would end with the same score
                break
        return proposal

    def _frozen(self, all_trials: Trials) -> list[FrozenTrial]:
        """The trials so far as Optuna knows them; those before the first that is not over are made once."""
        found, views = self._over, all_trials.all()
        later = [frozen_or_refused(view, self.space, self._search.objectives) for view in views[len(found) :]]
        over = itertools.takewhile(lambda trial: trial.state.is_finished(), later)
        self._over = [*found, *over]
        return [*found, *later]

    def _params_tried(self, all_trials: Trials) -> dict[str, list[dict[str, Primitive]]]:
        """What was drawn of each arm."""
        for view in all_trials.all()[self._num_tried :]:
            self._tried.setdefault(view.arm, []).append(view.params)
            self._num_tried += 1
        return self._tried

    def _choose(self, history: PastTrials, trials: Sequence[FrozenTrial], all_trials: Trials) -> str:
        if len(self.searchable) == 1:
            return self.searchable[0]
        if self._bandit is StrategyBandit.EQUAL:
            return fewest(self.searchable, history.tally(trials))
        if len(self._across.directions) == 1:
            tally = history.tally(trials)
            if len(self._settings.backbones) == 1:
                return most_promising(self.searchable, tally)
            costs = costs_of(self.searchable, all_trials, budget=self._settings.budget)
            # At first what a second brings counts, at the end what a trial brings.
            left = max(0.0, 1 - len(trials) / self._settings.trials)
            return most_promising(self.searchable, tally, costs, cooling=left)
        return drawn(self.searchable, Suggestion(self._across, history.across(trials), len(trials)))

    def _proposal(self, draft: Draft, origin: str, notes: dict[str, Any] | None = None) -> Proposal:
        experiment = self._settings.experiment(draft.strategy, self._settings.backbone_of(draft.arm))
        return Proposal(experiment, by_path(draft.arm, draft.params), origin, notes or {})


def costs_of(arms: Sequence[str], all_trials: Trials, *, budget: int) -> dict[str, float]:
    """Seconds of a whole trial of each arm by its units so far; the mean of the others for one that has none."""
    known = {
        arm: sum(view.seconds for view in views) / units * (1 if strategy_in(arm) in UNTRAINED else budget)
        for arm, views in by_arm(all_trials.all()).items()
        if (units := sum(view.num_units for view in views)) and arm in arms
    }
    typical = fmean(known.values()) if known else 1.0
    return {arm: max(known.get(arm, typical), LEAST_S) for arm in arms}


def directions(objectives: Sequence[str]) -> tuple[StudyDirection, ...]:
    """Optuna's direction of each objective."""
    return tuple(StudyDirection.MAXIMIZE if maximized(name) else StudyDirection.MINIMIZE for name in objectives)


def point_origin(place: int) -> str:
    """The origin of trials of the point to try at ``place`` in the settings, counted from 0."""
    return f"point {place}"
