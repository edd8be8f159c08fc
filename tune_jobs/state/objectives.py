"""Several objectives: their values, their directions, and the trials that no other one beats in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import pandas as pd

from search_spaces.arms import arm_of
from tune_jobs.config.search import PARAMS_TRAINED, SECONDS, maximized
from tune_jobs.state.trials import Status, Trials, TrialView

FRONT = "pareto_front.csv"


@dataclass(frozen=True)
class FrontRow:
    """A trial of the Pareto front, with its values by objective."""

    number: int
    strategy: str
    backbone: str
    """What the sweep calls its backbone; empty if there is only one."""
    values: dict[str, float]

    def texts(self) -> dict[str, str]:
        """The values to six digits, but all digits of a whole number: a count of parameters."""
        return {name: f"{value:.0f}" if value.is_integer() else f"{value:.6g}" for name, value in self.values.items()}


def measured(view: TrialView) -> dict[str, float]:
    """All that a sweep may search for: the metrics of a trial's best weights, and what it cost, a seed."""
    costs = {PARAMS_TRAINED: float(view.params_trained or 0), SECONDS: view.seconds / max(1, len(view.seeds))}
    return view.metrics | costs


def objective_values(objectives: Sequence[str], view: TrialView) -> tuple[float, ...]:
    """The values of a finished trial; raises ValueError if one was not measured."""
    values = measured(view)
    for name in objectives:
        if isnan(values.get(name, nan)):
            raise ValueError(f"{name} was not measured")
    return tuple(float(values[name]) for name in objectives)


def pareto_front(all_trials: Trials, objectives: Sequence[str]) -> list[FrontRow]:
    """The finished trials that no other one equals or beats in every objective and beats in one; best score first.

    Trials that were stopped early are not among them: their values would be those of another budget.
    """
    rows = [
        FrontRow(
            view.number,
            view.strategy,
            view.backbone,
            dict(zip(objectives, objective_values(objectives, view), strict=True)),
        )
        for view in all_trials.all()
        if view.status is Status.COMPLETE
    ]
    front = [row for row in rows if not any(dominates(other.values, row.values) for other in rows)]
    return sorted(front, key=lambda row: (-row.values[objectives[0]], row.number))


def dominates(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in any objective and better in one."""
    gains = [(a[name] - b[name]) * (1 if maximized(name) else -1) for name in a]
    return min(gains) >= 0 and max(gains) > 0


def front_csv(front: Sequence[FrontRow]) -> str:
    """The front as CSV, a row a trial, with backbones if there are several; nothing for an empty one."""
    rows = [
        {"trial": row.number, "strategy": row.strategy}
        | ({"backbone": row.backbone} if row.backbone else {})
        | row.texts()
        for row in front
    ]
    return pd.DataFrame(rows).to_csv(index=False) if rows else ""


def front_lines(front: Sequence[FrontRow]) -> list[str]:
    """The front in words; nothing for an empty one."""
    if not front:
        return []
    named = " and ".join(front[0].values)
    lines = [
        f"  trial {row.number} {arm_of(row.strategy, row.backbone)}: "
        + ", ".join(f"{name} {text}" for name, text in row.texts().items())
        for row in front
    ]
    trials = "1 finished trial" if len(front) == 1 else f"{len(front)} finished trials"
    return [f"Pareto front: {trials} that no other one beats in {named}", *lines]
