"""The leaderboard: every trial in one CSV file, best first."""

from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from handclip_core.evaluation.metrics import Metrics
from handclip_core.runs.run_folder import write_text
from search_spaces.arms import backbone_in, strategy_in
from search_spaces.suggest import Primitive
from tune_jobs.state.events import Mixture
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

FILE = "leaderboard.csv"


def write_leaderboard(all_trials: Trials, folder: Path) -> None:
    """Write ``leaderboard.csv`` into ``folder``; readers see the old file or the new one."""
    write_text(folder / FILE, leaderboard(all_trials))


def leaderboard(all_trials: Trials) -> str:
    """CSV text of all trials, and of mixtures of their weights, which have no number and used no time.

    ``unit`` counts the units trained on the present seed, ``sd`` is that of the first metric over ``seeds``, and
    ``micro_batch`` is there if a trial ran out of memory. What a strategy does not have, or was not measured, is blank.
    """
    known = all_trials.task.metrics
    drawn = list(dict.fromkeys(name for view in all_trials.all() for name in view.params))
    scored = [view for view in all_trials.ranked() if view.has_score]
    rows: list[TrialView | Mixture] = sorted(
        [*scored, *all_trials.mixtures], key=lambda row: -row.metrics[known.objective.name]
    )
    cells = [{"rank": str(place)} | _cells(row, known) for place, row in enumerate(rows, start=1)]
    # Without a score there is no rank.
    cells += [_cells(view, known) for view in all_trials.ranked() if not view.has_score]
    fixed = columns(known, several_backbones=bool(all_trials.backbones))
    return pd.DataFrame(cells, columns=[*fixed, *drawn]).to_csv(index=False)


def columns(metrics: Metrics, *, several_backbones: bool = False) -> tuple[str, ...]:
    """The fixed columns; every drawn hyperparameter follows, under its path in an experiment."""
    backbone = ("backbone",) if several_backbones else ()
    return (
        "rank", "trial", "strategy", *backbone, *(metric.name for metric in metrics.in_tables), "unit",
        "seconds", "params_trained", "seeds", "sd", "attempts", "micro_batch", "status",
    )  # fmt: skip


def describe_status(view: TrialView) -> str:
    """The status, and why a trial failed."""
    return f"{view.status}: {view.reason}" if view.status is Status.FAILED else str(view.status)


def _cells(row: TrialView | Mixture, known: Metrics) -> dict[str, Any]:
    metrics = {metric.name: _score(row.metrics.get(metric.name, nan)) for metric in known.in_tables}
    if isinstance(row, Mixture):
        named = {"strategy": strategy_in(row.name), "backbone": backbone_in(row.name)}
        return metrics | named | {"status": row.status}
    return {
        **metrics,
        "trial": str(row.number),
        "strategy": row.strategy,
        "backbone": row.backbone,
        "unit": str(row.unit),
        "seconds": f"{row.seconds:.1f}",
        "params_trained": _cell(row.params_trained, none=""),
        "seeds": str(max(1, len(row.seeds))),
        "sd": _score(row.sd),
        "attempts": str(row.attempts),
        "micro_batch": _cell(row.experiment.micro_batch, none=""),
        "status": describe_status(row),
        **{name: _cell(value) for name, value in row.params.items()},
    }


def _score(value: float) -> str:
    return "" if isnan(value) else f"{value:.6f}"


def _cell(value: Primitive, *, none: str = "none") -> str:
    return none if value is None else str(value).lower() if isinstance(value, bool) else str(value)
