"""Trials as Optuna's samplers see them: arm by arm, and never more than a bounded number.

What a sampler sees is a function of the trials of a sweep; no study is asked.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, nlargest
from math import isnan
from operator import itemgetter

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from handclip_core.errors import InputError
from search_spaces.arms import arm_of, backbone_in, strategy_in
from search_spaces.joint import JointSpace
from search_spaces.spaces import STRATEGY
from search_spaces.suggest import Primitive
from tune_jobs.state.events import LearnedTrial
from tune_jobs.state.objectives import objective_values
from tune_jobs.state.trial import Status, TrialView

STRATEGY_ATTRIBUTE, ORIGIN = "strategy", "origin"
"""User attributes of every trial: its strategy, and why it was tried."""
BACKBONE = "backbone"
"""The user attribute, and the name under which Optuna sees the choice, of a backbone among several."""
CHOICES = (STRATEGY, BACKBONE)
STATES = {Status.COMPLETE: TrialState.COMPLETE, Status.STOPPED: TrialState.PRUNED, Status.FAILED: TrialState.FAIL}
MOST_SEEN = 300
"""Trials that a sampler sees, so that the time of a suggestion stays bounded: the best ones and the latest."""
BEST_SEEN = 100
"""The best among them, by score."""
LATEST_SEEN = MOST_SEEN - BEST_SEEN


def arm_tried(trial: FrozenTrial) -> str:
    """Which arm a trial tried."""
    return arm_of(trial.user_attrs[STRATEGY_ATTRIBUTE], trial.user_attrs.get(BACKBONE, ""))


def by_path(arm: str, params: dict[str, Primitive]) -> dict[str, Primitive]:
    """Draws by the field's path in an experiment, ``strategy/optim/lr``, from those by Optuna's names."""
    prefix = f"{arm}/"
    return {f"strategy/{name.removeprefix(prefix)}": value for name, value in params.items()}


def by_name(arm: str, params: dict[str, Primitive]) -> dict[str, Primitive]:
    """Draws by Optuna's names, ``full/optim/lr``, from those by the field's path in an experiment."""
    return {f"{arm}/{path.removeprefix('strategy/')}": value for path, value in params.items()}


def frozen(view: TrialView, space: JointSpace, objectives: Sequence[str]) -> FrozenTrial:
    """A trial as Optuna knows it; raises ValueError if ``space`` does not hold it.

    Finished trials are COMPLETE, those stopped early PRUNED with the last score for their value, and every evaluated
    unit is an intermediate value, so that scores of a small budget are never taken for final ones. Optuna keeps no
    intermediate values with several objectives.
    """
    draft = space.redraw(view.arm, by_name(view.arm, view.params))
    params, distributions = dict(draft.params), dict(draft.distributions)
    chosen = {
        STRATEGY: (view.strategy, strategy_in),
        **({BACKBONE: (view.backbone, backbone_in)} if view.backbone else {}),
    }
    for name, (choice, part) in chosen.items() if params else ():
        params[name] = choice
        distributions[name] = CategoricalDistribution(tuple(dict.fromkeys(map(part, space.searchable()))))
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
        user_attrs=_attributes(view.arm) | {ORIGIN: view.origin},
        system_attrs=view.notes,
    )
    # Optuna gives a trial its number within a study alone.
    trial.number = view.number
    return trial


def frozen_or_refused(view: TrialView, space: JointSpace, objectives: Sequence[str]) -> FrozenTrial:
    """As ``frozen``; raises InputError, with a way on, if the space does not hold the trial any more."""
    try:
        return frozen(view, space, objectives)
    except ValueError as error:
        mend = "go on by --fork, or begin another sweep with --warm-start"
        raise InputError(f"trial {view.number} was drawn from another space ({error}); {mend}") from None


def within_arm(trial: FrozenTrial, arm: str) -> FrozenTrial:
    """A trial of ``arm`` as one of that arm alone: draws by path, ``optim/lr``, and no choice of an arm."""
    names = {name: name.removeprefix(f"{arm}/") for name in trial.params if name not in CHOICES}
    found = copy.copy(trial)
    found.params = {path: trial.params[name] for name, path in names.items()}
    found.distributions = {path: trial.distributions[name] for name, path in names.items()}
    # Its own, since callers add to them.
    found.user_attrs = dict(trial.user_attrs)
    return found


def learned(trial: LearnedTrial, space: JointSpace) -> FrozenTrial:
    """A trial of another sweep; raises ValueError if ``space`` does not hold it."""
    draft = space.redraw(trial.strategy, by_name(trial.strategy, trial.params))
    return create_trial(
        state=TrialState.COMPLETE if trial.complete else TrialState.PRUNED,
        values=trial.values or None,
        params=draft.params,
        distributions=draft.distributions,
        user_attrs=_attributes(trial.strategy),
        intermediate_values=trial.curve,
    )


def _attributes(arm: str) -> dict[str, str]:
    named = {STRATEGY_ATTRIBUTE: strategy_in(arm), BACKBONE: backbone_in(arm)}
    return {name: value for name, value in named.items() if value}


@dataclass
class Tally:
    """How often each arm was tried, and the best validation mAP of every trial that finished or was stopped."""

    tried: Counter[str] = field(default_factory=Counter)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def add(self, trial: FrozenTrial) -> None:
        """Take one more trial into account."""
        arm = arm_tried(trial)
        self.tried[arm] += 1
        if trial.state is TrialState.COMPLETE:
            self.scores.setdefault(arm, []).append(trial.values[0])
        elif trial.state is TrialState.PRUNED and trial.intermediate_values:
            self.scores.setdefault(arm, []).append(max(trial.intermediate_values.values()))

    def with_more(self, trials: Iterable[FrozenTrial]) -> "Tally":
        """This tally and ``trials``, as another one."""
        more = Tally(Counter(self.tried), {name: list(found) for name, found in self.scores.items()})
        for trial in trials:
            more.add(trial)
        return more


class ArmTrials:
    """Trials of one arm, oldest first, whose bounded view takes no longer the more there are."""

    def __init__(self) -> None:
        self._trials: list[FrozenTrial] = []
        self._best_old: list[tuple[float, int, int]] = []
        """A heap of the best of those that are not among the latest: score, less the place, and place."""

    def add(self, trial: FrozenTrial) -> None:
        """Take one more trial, which is over."""
        self._trials.append(trial)
        old = len(self._trials) - 1 - LATEST_SEEN
        if old >= 0:
            # Of equals the later one goes first.
            heappush(self._best_old, (_score(self._trials[old]), -old, old))
            if len(self._best_old) > BEST_SEEN:
                heappop(self._best_old)

    def bounded_with(self, more: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """What ``bounded`` shows of these trials and ``more`` that have come after them."""
        best = [self._trials[place] for *_, place in sorted(self._best_old, key=itemgetter(2))]
        # The best of the whole are the best of these.
        return bounded([*best, *self._trials[max(0, len(self._trials) - LATEST_SEEN) :], *more])


class PastTrials:
    """What a sampler may learn from: the trials of a study, and finished ones from elsewhere."""

    def __init__(self, arms: Sequence[str], *, learned: Sequence[FrozenTrial] = (), stopped_count: bool) -> None:
        """``arms`` are those to choose among. Trials ``learned`` elsewhere count as older than any other.

        With ``stopped_count`` a trial that was stopped early passes for a finished one with its last score, for
        samplers that use finished trials alone.
        """
        self._arms, self._stopped_count = tuple(arms), stopped_count
        self._learned = [copy.copy(trial) for trial in learned]
        for place, trial in enumerate(self._learned):
            trial.number = place - len(learned)
        self._over, self._by_arm = Tally(), dict[str, ArmTrials]()
        self._num_over = 0
        for trial in self._learned:
            self._add(trial)

    def tally(self, trials: Sequence[FrozenTrial]) -> Tally:
        """Of what was learned elsewhere and of ``trials``, all of the study so far."""
        return self._over.with_more(self._later(trials))

    def inside(self, arm: str, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Trials of ``arm`` among ``trials``, all of the study so far, with its own parameters, oldest first."""
        later = [trial for trial in self._later(trials) if arm_tried(trial) == arm]
        views = []
        for trial in self._by_arm.setdefault(arm, ArmTrials()).bounded_with(later):
            params = {name: value for name, value in trial.params.items() if name not in CHOICES}
            views.append(self._view(trial, params, {name: trial.distributions[name] for name in params}))
        return views

    def across(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Trials of all arms with no parameter but their choice, oldest first."""
        known = [trial for trial in [*self._learned, *trials] if arm_tried(trial) in self._arms]
        choice: dict[str, BaseDistribution] = {STRATEGY: CategoricalDistribution(self._arms)}
        return bounded([self._view(trial, {STRATEGY: arm_tried(trial)}, choice) for trial in known])

    def _later(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Those from the first on that is not over; the others are taken up once: a long study costs no more."""
        while self._num_over < len(trials) and trials[self._num_over].state.is_finished():
            self._add(trials[self._num_over])
            self._num_over += 1
        return trials[self._num_over :]

    def _add(self, trial: FrozenTrial) -> None:
        self._over.add(trial)
        self._by_arm.setdefault(arm_tried(trial), ArmTrials()).add(trial)

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
    split = len(trials) - LATEST_SEEN
    best = nlargest(BEST_SEEN, trials[:split], key=_score)
    return sorted(best, key=lambda trial: trial.number) + list(trials[split:])


def _score(trial: FrozenTrial) -> float:
    complete = trial.state is TrialState.COMPLETE and trial.values is not None
    return trial.values[0] if complete else float("-inf")
