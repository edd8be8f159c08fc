"""Trials as Optuna's samplers see them: strategy by strategy, and never more than a bounded number.

What a sampler sees is a function of the trials of a sweep; no study is asked.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import isnan

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.joint import JointSpace
from search_spaces.spaces import STRATEGY
from search_spaces.suggest import Primitive
from tune_jobs.state.events import LearnedTrial
from tune_jobs.state.objectives import objective_values
from tune_jobs.state.trials import Status, TrialView

STRATEGY_ATTRIBUTE, ORIGIN = "strategy", "origin"
"""User attributes of every trial: its strategy, and why it was tried."""
STATES = {Status.COMPLETE: TrialState.COMPLETE, Status.STOPPED: TrialState.PRUNED, Status.FAILED: TrialState.FAIL}
MOST_SEEN = 300
"""Trials that a sampler sees, so that the time of a suggestion stays bounded: the best ones and the latest."""
BEST_SEEN = 100
"""The best among them, by score."""


def strategy_of(trial: FrozenTrial) -> str:
    """Which strategy a trial tried."""
    return str(trial.user_attrs[STRATEGY_ATTRIBUTE])


def by_path(strategy: str, params: dict[str, Primitive]) -> dict[str, Primitive]:
    """Draws by the field's path in an experiment, ``strategy/optim/lr``, from those by Optuna's names."""
    prefix = f"{strategy}/"
    return {f"strategy/{name.removeprefix(prefix)}": value for name, value in params.items()}


def by_name(strategy: str, params: dict[str, Primitive]) -> dict[str, Primitive]:
    """Draws by Optuna's names, ``full/optim/lr``, from those by the field's path in an experiment."""
    return {f"{strategy}/{path.removeprefix('strategy/')}": value for path, value in params.items()}


def frozen(view: TrialView, space: JointSpace, objectives: Sequence[str]) -> FrozenTrial:
    """A trial as Optuna knows it; raises ValueError if ``space`` does not hold it.

    Finished trials are COMPLETE, those stopped early PRUNED with the last score for their value, and every evaluated
    unit is an intermediate value, so that scores of a small budget are never taken for final ones. Optuna keeps no
    intermediate values with several objectives.
    """
    draft = space.redraw(view.strategy, by_name(view.strategy, view.params))
    params, distributions = dict(draft.params), dict(draft.distributions)
    if params:
        params[STRATEGY] = view.strategy
        distributions[STRATEGY] = CategoricalDistribution(space.searchable())
    curve = dict(view.curve) if len(objectives) == 1 else {}
    state = STATES.get(view.status, TrialState.RUNNING)
    values: Sequence[float] | None = None
    if state is TrialState.COMPLETE:
        values = objective_values(objectives, view)
    elif state is TrialState.PRUNED and curve and not isnan(curve[max(curve)]):
        values = (curve[max(curve)],)
    trial = create_trial(
        state=state,
        values=values,
        params=params,
        distributions=distributions,
        intermediate_values=curve,
        user_attrs={STRATEGY_ATTRIBUTE: view.strategy, ORIGIN: view.origin},
        system_attrs=view.notes,
    )
    trial.number = view.number
    return trial


def learned(trial: LearnedTrial, space: JointSpace) -> FrozenTrial:
    """A trial of another sweep; raises ValueError if ``space`` does not hold it."""
    draft = space.redraw(trial.strategy, by_name(trial.strategy, trial.params))
    return create_trial(
        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
        values=trial.values or None,
        params=draft.params,
        distributions=draft.distributions,
        user_attrs={STRATEGY_ATTRIBUTE: trial.strategy},
        intermediate_values=trial.curve,
    )


@dataclass
class Tally:
    """How often each strategy was tried, and the best validation mAP of every trial that finished or was stopped."""

    tried: Counter[str] = field(default_factory=Counter)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def add(self, trial: FrozenTrial) -> None:
        """Take one more trial into account."""
        strategy = strategy_of(trial)
        self.tried[strategy] += 1
        if trial.state is TrialState.COMPLETE:
            self.scores.setdefault(strategy, []).append(trial.values[0])
        elif trial.state is TrialState.PRUNED and trial.intermediate_values:
            self.scores.setdefault(strategy, []).append(max(trial.intermediate_values.values()))

    def with_more(self, trials: Iterable[FrozenTrial]) -> "Tally":
        """This tally and ``trials``, as another one."""
        more = Tally(Counter(self.tried), {name: list(found) for name, found in self.scores.items()})
        for trial in trials:
            more.add(trial)
        return more


class PastTrials:
    """What a sampler may learn from: the trials of a study, and finished ones from elsewhere."""

    def __init__(self, strategies: Sequence[str], *, learned: Sequence[FrozenTrial] = (), stopped_count: bool) -> None:
        """``strategies`` are those to choose among. Trials ``learned`` elsewhere count as older than any other.

        With ``stopped_count`` a trial that was stopped early passes for a finished one with its last score, for
        samplers that use finished trials alone.
        """
        self._strategies, self._stopped_count = tuple(strategies), stopped_count
        self._learned = [copy.copy(trial) for trial in learned]
        for place, trial in enumerate(self._learned):
            trial.number = place - len(learned)
        self._over = Tally().with_more(self._learned)
        self._num_over = 0

    def tally(self, trials: Sequence[FrozenTrial]) -> Tally:
        """Of what was learned elsewhere and of ``trials``, the study's so far: those of the last call and later ones.

        Trials that are over are counted once, so that a long study costs no more than a short one.
        """
        while self._num_over < len(trials) and trials[self._num_over].state.is_finished():
            self._over.add(trials[self._num_over])
            self._num_over += 1
        return self._over.with_more(trials[self._num_over :])

    def inside(self, strategy: str, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Trials of ``strategy`` with its own parameters, oldest first."""
        views = []
        for trial in bounded([trial for trial in [*self._learned, *trials] if strategy_of(trial) == strategy]):
            params = {name: value for name, value in trial.params.items() if name != STRATEGY}
            views.append(self._view(trial, params, {name: trial.distributions[name] for name in params}))
        return views

    def across(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Trials of all strategies with no parameter but their choice, oldest first."""
        known = [trial for trial in [*self._learned, *trials] if strategy_of(trial) in self._strategies]
        choice: dict[str, BaseDistribution] = {STRATEGY: CategoricalDistribution(self._strategies)}
        return bounded([self._view(trial, {STRATEGY: strategy_of(trial)}, choice) for trial in known])

    def _view(
        self, trial: FrozenTrial, params: dict[str, Primitive], distributions: dict[str, BaseDistribution]
    ) -> FrozenTrial:
        view = copy.copy(trial)
        view.params, view.distributions = params, distributions
        if self._stopped_count and trial.state is TrialState.PRUNED and trial.values is not None:
            view.state = TrialState.COMPLETE
        return view


def bounded(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best and the latest of ``trials``, in their order; all of them if they are few."""
    if len(trials) <= MOST_SEEN:
        return list(trials)
    split = len(trials) - (MOST_SEEN - BEST_SEEN)
    best = nlargest(BEST_SEEN, trials[:split], key=_score)
    return sorted(best, key=lambda trial: trial.number) + list(trials[split:])


def _score(trial: FrozenTrial) -> float:
    complete = trial.state is TrialState.COMPLETE and trial.values is not None
    return trial.values[0] if complete else float("-inf")
