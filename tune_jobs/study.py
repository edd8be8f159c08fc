"""The Optuna study of a sweep: asks for experiments' strategies and is told the truth about them.

Finished trials are COMPLETE, those stopped early PRUNED, failed ones FAIL, and every validated unit is an intermediate
value, so that low-budget scores are never taken for final ones. Only the driver writes to it.
"""

import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial, TrialState

from handclip_core.strategies import Strategy
from search_spaces.spaces import STRATEGY, default_of, experiment_space, params_of, searchable
from search_spaces.suggest import Primitive

STRATEGY_ATTRIBUTE = "strategy"


@dataclass(frozen=True)
class Asked:
    """A strategy to try. ``params`` are its draws by the field's path in an experiment: ``strategy/optim/lr``."""

    number: int
    strategy: Strategy
    params: dict[str, Primitive]


class SweepStudy:
    """Tries every strategy's default first, then what TPE suggests."""

    def __init__(self, storage: str | None, *, name: str, strategies: Sequence[str], seed: int, startup: int) -> None:
        """A new study in the database at URL ``storage``, or in memory; the first ``startup`` trials teach it."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=startup, multivariate=True, group=True, constant_liar=True, seed=seed
            )
        self.study = optuna.create_study(storage=storage, sampler=sampler, study_name=name, direction="maximize")
        self._searchable = searchable(strategies)
        self._defaults = deque(strategies)
        self._open: dict[int, Trial] = {}

    def ask(self) -> Asked | None:
        """The next strategy to try; None where everything there is has been tried."""
        if self._defaults:
            return self._ask_default(self._defaults.popleft())
        if not self._searchable:
            return None
        trial = self.study.ask()
        strategy = experiment_space(trial, self._searchable)
        return self._asked(trial, strategy)

    def report(self, number: int, *, unit: int, value: float) -> None:
        """Note the validation mAP of trial ``number`` after ``unit`` units."""
        self._open[number].report(value, step=unit)

    def note(self, number: int, **attributes: Any) -> None:
        """Note facts about trial ``number`` as user attributes."""
        for name, value in attributes.items():
            self._open[number].set_user_attr(name, value)

    def complete(self, number: int, *, value: float) -> None:
        """Trial ``number`` used its whole budget; ``value`` is its best validation mAP."""
        self.study.tell(self._open.pop(number), value)

    def prune(self, number: int) -> None:
        """Trial ``number`` was stopped early; its last intermediate value stands for it."""
        self.study.tell(self._open.pop(number), state=TrialState.PRUNED)

    def fail(self, number: int, *, reason: str) -> None:
        """Trial ``number`` raised or vanished."""
        self.note(number, reason=reason)
        self.study.tell(self._open.pop(number), state=TrialState.FAIL)

    def _ask_default(self, name: str) -> Asked:
        strategy = default_of(name)
        params = params_of(strategy)
        self.study.enqueue_trial({STRATEGY: name, **params} if params else {})
        trial = self.study.ask()
        return self._asked(trial, experiment_space(trial, self._searchable) if params else strategy)

    def _asked(self, trial: Trial, strategy: Strategy) -> Asked:
        self._open[trial.number] = trial
        trial.set_user_attr(STRATEGY_ATTRIBUTE, strategy.name)
        prefix = f"{strategy.name}/"
        drawn = {name: value for name, value in trial.params.items() if name.startswith(prefix)}
        return Asked(trial.number, strategy, {f"strategy/{n.removeprefix(prefix)}": v for n, v in drawn.items()})
