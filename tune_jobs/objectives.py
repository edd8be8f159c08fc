"""Several objectives: their values, their directions, and the trials that no other one beats in all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from tune_jobs.history import strategy_of
from tune_jobs.search_settings import Objective


@dataclass(frozen=True)
class FrontRow:
    """A trial of the Pareto front, with its values by objective."""

    number: int
    strategy: str
    values: dict[Objective, float]


def directions(objectives: Sequence[Objective]) -> tuple[StudyDirection, ...]:
    """Optuna's direction of each objective."""
    return tuple(StudyDirection.MAXIMIZE if item.maximized else StudyDirection.MINIMIZE for item in objectives)


def objective_values(objectives: Sequence[Objective], *, score: float, measures: Mapping[str, float]) -> list[float]:
    """The values of a finished trial: ``score``, its validation mAP, and the other objectives out of ``measures``.

    Raises ValueError where one was not measured.
    """
    values = {Objective.MAP: score} | {item: measures[item] for item in objectives if item in measures}
    for item in objectives:
        if isnan(values.get(item, float("nan"))):
            raise ValueError(f"{item} was not measured")
    return [float(values[item]) for item in objectives]


def pareto_front(study: Study, objectives: Sequence[Objective]) -> list[FrontRow]:
    """The finished trials that no other one equals or beats in every objective and beats in one; best mAP first.

    Trials that were stopped early are not among them: their values would be those of another budget.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    rows = [
        FrontRow(trial.number, strategy_of(trial), dict(zip(objectives, trial.values, strict=True)))
        for trial in finished
    ]
    front = [row for row in rows if not any(dominates(other.values, row.values) for other in rows)]
    return sorted(front, key=lambda row: (-row.values[Objective.MAP], row.number))


def dominates(a: Mapping[Objective, float], b: Mapping[Objective, float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in any objective and better in one."""
    gains = [(a[item] - b[item]) * (1 if item.maximized else -1) for item in a]
    return min(gains) >= 0 and max(gains) > 0
