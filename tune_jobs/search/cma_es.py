"""Optuna's CMA-ES with its state in plain numbers: Optuna pickles it, and who can write notes could run code."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import CmaEsSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    import cmaes  # type: ignore[import-untyped]

STATE = "cma:state"
"""The note with the state on the trial that was drawn first after a generation, as JSON."""
FIELDS = ("_mean", "_C", "_p_sigma", "_pc", "_sigma", "_g")
"""What a generation changes in the optimiser, but for what only tells when to stop, which nobody asks here."""


class PlainCmaEsSampler(CmaEsSampler):
    """Keeps its state as JSON; a note that is no such state is not used, and the optimiser begins anew."""

    # The three methods are Optuna's own, in which it keeps and finds its pickled optimiser; seen with Optuna 5.0.0.

    def _restore_optimizer(self, completed_trials: Sequence[FrozenTrial]) -> None:
        """Find the latest note; the optimiser is made where the search space is known."""
        notes = (trial.system_attrs[STATE] for trial in reversed(completed_trials) if STATE in trial.system_attrs)
        self._note = next(notes, None)

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> "cmaes.CMA":
        generator = self._cma_rng.rng.get_state()
        self._optimizer = super()._init_optimizer(trans, direction)
        if _take_up(self._optimizer, self._note):
            self._cma_rng.rng.set_state(generator)  # only the first optimiser draws a seed
        return self._optimizer

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        del optimizer_str
        values = {name: np.asarray(getattr(self._optimizer, name)).tolist() for name in FIELDS}
        return {STATE: json.dumps(values)}


def _take_up(optimizer: "cmaes.CMA", note: Any) -> bool:
    """Give ``optimizer`` the state in a note; whether that is one of as many numbers, all of them finite."""
    try:
        found = json.loads(note)
        values = {name: np.asarray(found[name], dtype=float) for name in FIELDS}
    except (TypeError, KeyError, ValueError):
        return False
    fresh = {name: np.shape(getattr(optimizer, name)) for name in FIELDS}
    if any(value.shape != fresh[name] or not np.isfinite(value).all() for name, value in values.items()):
        return False
    for name, value in values.items():
        setattr(optimizer, name, value if value.ndim else type(getattr(optimizer, name))(value))
    return True
