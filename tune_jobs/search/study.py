"""The Optuna study of a sweep: asks for experiments' strategies and is told the truth about them.

Finished trials are COMPLETE, those stopped early PRUNED, failed ones FAIL, and every validated unit is an intermediate
value, so that low-budget scores are never taken for final ones. Only the driver writes to it. What is asked next is a
function of the seed and of the trials so far: a study that is reopened asks what it would have asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from handclip_core.errors import InputError
from handclip_core.strategies import Strategy
from search_spaces.spaces import STRATEGY
from search_spaces.suggest import Primitive
from tune_jobs.config.search import Search
from tune_jobs.search.proposer import ORIGIN, Plan, Planner
from tune_jobs.search.study_storage import create_beside, create_study, find_beside, load_study, through_outages
from tune_jobs.search.transfer import Transfer, transfer
from tune_jobs.search.trial_views import STRATEGY_ATTRIBUTE, strategy_of
from tune_jobs.state.objectives import directions, objective_values

Value = TypeVar("Value")
CURVE = "curve"
"""The user attribute of mAP by unit, where several objectives leave Optuna no intermediate values."""


@dataclass(frozen=True)
class Asked:
    """A strategy to try. ``params`` are its draws by the field's path in an experiment: ``strategy/optim/lr``."""

    number: int
    strategy: Strategy
    params: dict[str, Primitive]
    origin: str
    """``default``, ``point 0`` (the first of the points to try) or ``sampled``."""


@dataclass(frozen=True)
class _Open:
    """A trial whose end is not known, and its validation mAP by unit."""

    trial: Trial
    curve: dict[int, float] = field(default_factory=dict)


class SweepStudy:
    """Tries every strategy's default first, then the user's points, then what the sampler suggests."""

    def __init__(
        self,
        storage: str | None,
        *,
        name: str,
        strategies: Sequence[str],
        seed: int,
        search: Search,
        reopen: bool = False,
    ) -> None:
        """A new study in the database at URL ``storage``, or in memory; with ``reopen``, the one that is there.

        Raises InputError where the database cannot be opened, or where the name is taken, or, reopening, unknown.
        """
        self._storage, self._strategies, self._seed, self._search = storage, tuple(strategies), seed, search
        self._planner = Planner(search, strategies=strategies, seed=seed)
        if reopen:
            assert storage is not None, "a study in memory is gone with its process"
            self.study = load_study(storage, name=name)
            learned = find_beside(self.study, learned_name(name))
            self._learn([] if learned is None else learned.get_trials(deepcopy=False))
        else:
            self.study = create_study(storage, name=name, directions=directions(search.objectives))
        self._open: dict[int, _Open] = {}

    def ask(self) -> Asked | None:
        """The next strategy to try; None where everything there is has been tried."""
        trials = self.trials()
        plan = self._planner.next(trials)
        if plan is None:
            return None
        return self._opened(self._added(self._as_trial(plan), number=len(trials)), plan.draft.strategy)

    def trials(self) -> list[FrozenTrial]:
        """Every trial so far, in the order of asking; not to be changed."""
        return self._patiently(lambda: self.study.get_trials(deepcopy=False))

    def adopt(self, number: int) -> Asked:
        """Take a running trial of a reopened study back, to be reported and told.

        Raises InputError where there is no such trial, and where its space has changed meanwhile.
        """
        trials = self.trials()
        if number >= len(trials) or trials[number].state is not TrialState.RUNNING:
            raise InputError(f"study '{self.study.study_name}': trial {number} is not running")
        trial = trials[number]
        try:
            draft = self._planner.space.redraw(strategy_of(trial), own_params(trial))
        except ValueError as error:
            raise InputError(
                f"study '{self.study.study_name}': trial {number} was drawn from another space: {error}"
            ) from None
        return self._opened(trial, draft.strategy)

    def take_over(self, strategy: Strategy, *, number: int, origin: str) -> Asked:
        """Open trial ``number`` for settings that another sweep has tried; it is reported and told like any other.

        Raises ValueError where the space does not hold them.
        """
        draft = self._planner.space.hold(strategy)
        return self._opened(self._added(self._as_trial(Plan(draft, origin)), number=number), draft.strategy)

    def report(self, number: int, *, unit: int, value: float) -> None:
        """Note the validation mAP of trial ``number`` after ``unit`` units; a unit that is known keeps its value."""
        known = self._open[number]
        if unit in known.curve:
            return
        known.curve[unit] = value
        if len(self._search.objectives) == 1:
            self._patiently(lambda: known.trial.report(value, step=unit))
        else:
            self.note(number, **{CURVE: {str(unit): score for unit, score in known.curve.items()}})

    def note(self, number: int, **attributes: Any) -> None:
        """Note facts about trial ``number`` as user attributes."""
        for name, value in attributes.items():
            self._patiently(partial(self._open[number].trial.set_user_attr, name, value))

    def complete(self, number: int, *, value: float, measures: Mapping[str, float] | None = None) -> None:
        """Trial ``number`` used its whole budget; ``value`` is its best validation mAP.

        ``measures`` hold the other objectives by name. Raises ValueError where one was not measured.
        """
        values = objective_values(self._search.objectives, score=value, measures=measures or {})
        self._tell(number, values=values)

    def prune(self, number: int) -> None:
        """Trial ``number`` was stopped early; its last intermediate value stands for it."""
        self._tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, *, reason: str) -> None:
        """Trial ``number`` raised or vanished."""
        self.note(number, reason=reason)
        self._tell(number, state=TrialState.FAIL)

    def learn_from(self, storage: str, *, name: str) -> Transfer:
        """Let the sampler learn from the study ``name`` in the database at URL ``storage``, before the first trial.

        What it can use is copied beside this study, so that a reopened search knows it still. Returns what was taken
        and what was dropped with the reasons; raises InputError where there is no such study.
        """
        other = load_study(storage, name=name)
        found = transfer(
            other.get_trials(deepcopy=False), self._planner.space, num_objectives=len(self._search.objectives)
        )
        beside = learned_name(self.study.study_name)
        copies = find_beside(self.study, beside) or create_beside(self.study, beside)
        copies.add_trials(found.taken)
        self._learn(copies.get_trials(deepcopy=False))
        return found

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        self._planner = Planner(self._search, strategies=self._strategies, seed=self._seed, learned=trials)

    def _added(self, trial: FrozenTrial, *, number: int) -> FrozenTrial:
        def add() -> FrozenTrial:
            # A connection may break after the write and before its confirmation.
            if len(self.study.get_trials(deepcopy=False)) == number:
                self.study.add_trial(trial)
            return self.study.get_trials(deepcopy=False)[-1]

        added = self._patiently(add)
        if added.number != number:
            raise InputError(f"study '{self.study.study_name}': another process writes to it; run one sweep at a time")
        return added

    def _tell(self, number: int, *, values: list[float] | None = None, state: TrialState | None = None) -> None:
        trial = self._open.pop(number).trial
        self._patiently(lambda: self.study.tell(trial, values, state, skip_if_finished=True))

    def _patiently(self, action: Callable[[], Value]) -> Value:
        return through_outages(action, url=self._storage)

    def _as_trial(self, plan: Plan) -> FrozenTrial:
        """One write for the whole trial, so that a driver that dies leaves it complete or not at all."""
        params: dict[str, Primitive] = dict(plan.draft.params)
        distributions: dict[str, BaseDistribution] = dict(plan.draft.distributions)
        if params:
            params[STRATEGY] = plan.strategy
            distributions[STRATEGY] = CategoricalDistribution(self._planner.searchable)
        return create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={STRATEGY_ATTRIBUTE: plan.strategy, ORIGIN: plan.origin},
            system_attrs=plan.attributes,
        )

    def _opened(self, trial: FrozenTrial, strategy: Strategy) -> Asked:
        curve = trial.user_attrs.get(CURVE, trial.intermediate_values)
        self._open[trial.number] = _Open(
            Trial(self.study, trial._trial_id), {int(unit): score for unit, score in curve.items()}
        )
        prefix = f"{strategy.name}/"
        params = {f"strategy/{name.removeprefix(prefix)}": value for name, value in own_params(trial).items()}
        return Asked(trial.number, strategy, params, trial.user_attrs[ORIGIN])


def own_params(trial: FrozenTrial) -> dict[str, Primitive]:
    """The draws of a trial by Optuna's names, without the choice of the strategy."""
    return {name: value for name, value in trial.params.items() if name != STRATEGY}


def learned_name(name: str) -> str:
    """Name of the study that holds what study ``name`` learned from another one."""
    return f"{name}/learned"
