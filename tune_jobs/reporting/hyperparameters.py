"""The report's section on hyperparameters: strategy by strategy, since those of different ones cannot be compared."""

from collections.abc import Mapping, Sequence
from math import isfinite

import optuna
from optuna.trial import create_trial

from search_spaces.suggest import Primitive
from tune_jobs.reporting.charts import COLOURS, axes, parallel, points
from tune_jobs.reporting.page import Figure, Section
from tune_jobs.reporting.record import SweepRecord, scored
from tune_jobs.reporting.summary import extend_command
from tune_jobs.search.trial_views import frozen, within_arm
from tune_jobs.state.trial import TrialView

FEWEST = 8
"""Trials with a score from which on a strategy's hyperparameters are looked at."""
MOST, MOST_AXES = 12, 8
"""Hyperparameters that a strategy's bars and its parallel axes show."""
RATE = "strategy/optim/lr"
"""The field that nearly every strategy searches."""


def hyperparameters(sweep: SweepRecord) -> Section:
    """Importance, rates and values, of every strategy with trials enough; of the others, how many they lack."""
    figures, refused, few = _rates(sweep), [], []
    for name, views in sweep.by_arm.items():
        known = [view for view in scored(views) if view.params]
        if len(known) >= FEWEST:
            try:
                shares = _importance(sweep, name, known)
            except ValueError as error:
                shares = {}
                refused.append(f"No importance of {name}, whose trials were drawn from another space ({error}).")
            figures += [*([_bars(name, shares, len(known))] if shares else []), *_parallel(sweep, name, known, shares)]
        elif known:
            few.append(f"{name} has {len(known)}")
    if few or not figures:
        refused.append(
            f"Importance and parallel axes of a strategy take {FEWEST} of its trials with a score"
            f"{''.join(f'; {one}' for one in few)}. Go on with: {extend_command(sweep.where)}"
        )
    return Section(title="Hyperparameters", figures=tuple(figures), missing=" ".join(refused))


def _rates(sweep: SweepRecord) -> list[Figure]:
    traces = []
    for name, views in sweep.by_arm.items():
        known = [
            (rate, 100 * v.score, f"trial {v.number}") for v in scored(views) if (rate := _number(v.params.get(RATE)))
        ]
        if known:
            traces.append(points(name, known, sweep.palette))
    layout = axes("learning rate", f"{sweep.objective.label}, %")
    layout["xaxis"]["type"] = "log"
    caption = "Learning rate against the metric: a best rate at an end of its range says to widen it."
    return [Figure(caption=caption, data=tuple(traces), layout=layout)] if traces else []


def _number(value: Primitive) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _importance(sweep: SweepRecord, name: str, views: Sequence[TrialView]) -> dict[str, float]:
    """The share of each hyperparameter that all of the trials drew, largest first (PED-ANOVA, Watanabe 2023,
    arXiv 2304.10255); nothing if there are too few.
    """
    space, objectives = sweep.settings.space, sweep.settings.search.objectives
    trials = [within_arm(frozen(view, space, objectives), name) for view in views]
    shared = [path for path in trials[0].params if all(path in trial.params for trial in trials)]
    # What is alike in all trials has decided nothing.
    shared = [path for path in shared if len({trial.params[path] for trial in trials}) > 1]
    if len(shared) < 2 or len({view.score for view in views}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for view, trial in zip(views, trials, strict=True):
        params = {path: trial.params[path] for path in shared}
        ranges = {path: trial.distributions[path] for path in shared}
        study.add_trial(create_trial(value=view.score, params=params, distributions=ranges))
    from optuna.importance import PedAnovaImportanceEvaluator  # two seconds to import, with scikit-learn

    found = PedAnovaImportanceEvaluator().evaluate(study, params=shared)
    total = sum(share for share in found.values() if isfinite(share)) or 1.0
    return {path: share / total for path, share in found.items() if isfinite(share)}


def _bars(name: str, shares: Mapping[str, float], num_trials: int) -> Figure:
    rows = sorted(shares.items(), key=lambda item: item[1])[-MOST:]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [100 * share for _, share in rows],
        "y": [path for path, _ in rows],
        "marker": {"color": COLOURS[0]},
    }
    layout = {
        "xaxis": {"title": {"text": "importance, %"}},
        "yaxis": {"type": "category"},
        "height": 130 + 26 * len(rows),
    }
    caption = f"What decides whether a trial of {name} is among its best tenth (PED-ANOVA, {num_trials} trials)."
    return Figure(caption=caption, data=(trace,), layout=layout)


def _parallel(sweep: SweepRecord, name: str, views: Sequence[TrialView], shares: Mapping[str, float]) -> list[Figure]:
    paths = list(dict.fromkeys(path for view in views for path in view.params))
    paths = [path for path in paths if len({view.params.get(path) for view in views}) > 1]
    names = {path: path.removeprefix("strategy/") for path in paths}
    paths = sorted(paths, key=lambda path: -shares.get(names[path], 0.0))[:MOST_AXES]
    if len(paths) < 2:
        return []
    rows = [[view.params.get(path) for path in paths] for view in views]
    caption = (
        f"Trials of {name} through their hyperparameters, the most important first, by {sweep.objective.label}; a line "
        "is broken at what a trial does not have. A click in the legend hides a fifth."
    )
    return [parallel(caption, [names[path] for path in paths], rows, [100 * view.score for view in views])]
