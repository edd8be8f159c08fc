"""Several objectives: their values, their directions, and the trials that no other one beats in all of them."""

from collections.abc import Mapping, Sequence
from math import isnan, nan

import pandas as pd

from tune_jobs.config.search import PARAMS_TRAINED, SECONDS, maximized
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

FRONT = "pareto_front.csv"


def measured(view: TrialView) -> dict[str, float]:
    """All that a sweep may search for: the metrics of a trial's best weights, and what it cost, a seed."""
    # A trial of one seed lists none.
    costs = {PARAMS_TRAINED: float(view.params_trained or 0), SECONDS: view.seconds / max(1, len(view.seeds))}
    return view.metrics | costs


def objective_values(objectives: Sequence[str], view: TrialView) -> tuple[float, ...]:
    """The values of a finished trial; raises ValueError if one was not measured."""
    values = measured(view)
    for name in objectives:
        if isnan(values.get(name, nan)):
            raise ValueError(f"{name} was not measured")
    return tuple(float(values[name]) for name in objectives)


def texts(objectives: Sequence[str], view: TrialView) -> dict[str, str]:
    """The values by objective to six digits, but all digits of a whole number: a count of parameters."""
    values = dict(zip(objectives, objective_values(objectives, view), strict=True))
    return {name: f"{value:.0f}" if value.is_integer() else f"{value:.6g}" for name, value in values.items()}


def pareto_front(all_trials: Trials, objectives: Sequence[str]) -> list[TrialView]:
    """The finished trials that no other one equals or beats in every objective and beats in one; best score first.

    Trials that were stopped early are not among them: their values would be those of another budget.
    """
    complete = [view for view in all_trials.all() if view.status is Status.COMPLETE]
    values = {view.number: objective_values(objectives, view) for view in complete}

    def losses(view: TrialView) -> list[float]:
        return [-v if maximized(name) else v for name, v in zip(objectives, values[view.number], strict=True)]

    # Best first by one objective after the other: what beats a trial stands before it, so the front so far is enough.
    order = sorted(complete, key=lambda view: (losses(view), view.number))
    front: list[tuple[TrialView, dict[str, float]]] = []
    for view in order:
        own = dict(zip(objectives, values[view.number], strict=True))
        if not any(dominates(other, own) for _, other in front):
            front.append((view, own))
    return sorted((view for view, _ in front), key=lambda view: (-values[view.number][0], view.number))


def dominates(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in any objective and better in one."""
    gains = [(a[name] - b[name]) * (1 if maximized(name) else -1) for name in a]
    return min(gains) >= 0 and max(gains) > 0


def front_csv(front: Sequence[TrialView], objectives: Sequence[str]) -> str:
    """The front as CSV, a row a trial, with backbones if there are several; nothing for an empty one."""
    rows = [
        {"trial": view.number, "strategy": view.strategy}
        | ({"backbone": view.backbone} if view.backbone else {})
        | texts(objectives, view)
        for view in front
    ]
    return pd.DataFrame(rows).to_csv(index=False) if rows else ""


def front_lines(front: Sequence[TrialView], objectives: Sequence[str]) -> list[str]:
    """The front in words; nothing for an empty one."""
    if not front:
        return []
    lines = [
        f"  trial {view.number} {view.arm}: "
        + ", ".join(f"{name} {text}" for name, text in texts(objectives, view).items())
        for view in front
    ]
    trials = "1 finished trial" if len(front) == 1 else f"{len(front)} finished trials"
    return [f"Pareto front: {trials} that no other one beats in {' and '.join(objectives)}", *lines]
