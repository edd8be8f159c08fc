"""Several objectives: their values, their directions, and the trials that no other one beats in all of them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from optuna.study import StudyDirection

from tune_jobs.config.search import Objective
from tune_jobs.state.trials import Records, Status, TrialRecord

FRONT = "pareto_front.csv"


@dataclass(frozen=True)
class FrontRow:
    """A trial of the Pareto front, with its values by objective."""

    number: int
    strategy: str
    values: dict[Objective, float]


def directions(objectives: Sequence[Objective]) -> tuple[StudyDirection, ...]:
    """Optuna's direction of each objective."""
    return tuple(StudyDirection.MAXIMIZE if item.maximized else StudyDirection.MINIMIZE for item in objectives)


def measures_of(record: TrialRecord) -> dict[str, float]:
    """What a sweep may search for beside mAP, by the names of the objectives."""
    return {
        Objective.PARAMS_TRAINED: float(record.params_trained or 0),
        Objective.SECONDS: record.seconds / max(1, len(record.seeds)),
        Objective.RETENTION: record.retention,
    }


def objective_values(objectives: Sequence[Objective], *, score: float, measures: Mapping[str, float]) -> list[float]:
    """The values of a finished trial: ``score``, its validation mAP, and the other objectives out of ``measures``.

    Raises ValueError where one was not measured.
    """
    values = {Objective.MAP: score} | {item: measures[item] for item in objectives if item in measures}
    for item in objectives:
        if isnan(values.get(item, float("nan"))):
            raise ValueError(f"{item} was not measured")
    return [float(values[item]) for item in objectives]


def pareto_front(records: Records, objectives: Sequence[Objective]) -> list[FrontRow]:
    """The finished trials that no other one equals or beats in every objective and beats in one; best mAP first.

    Trials that were stopped early are not among them: their values would be those of another budget.
    """
    rows = [_row(record, objectives) for record in records.all() if record.status is Status.COMPLETE]
    front = [row for row in rows if not any(dominates(other.values, row.values) for other in rows)]
    return sorted(front, key=lambda row: (-row.values[Objective.MAP], row.number))


def dominates(a: Mapping[Objective, float], b: Mapping[Objective, float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in any objective and better in one."""
    gains = [(a[item] - b[item]) * (1 if item.maximized else -1) for item in a]
    return min(gains) >= 0 and max(gains) > 0


def front_csv(front: Sequence[FrontRow]) -> str:
    """The front as CSV, a row a trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for place, row in enumerate(front):
        if place == 0:
            writer.writerow(["trial", "strategy", *row.values])
        writer.writerow([row.number, row.strategy, *map(_written, row.values.values())])
    return text.getvalue()


def front_lines(front: Sequence[FrontRow]) -> list[str]:
    """The front in words; nothing for an empty one."""
    if not front:
        return []
    named = " and ".join(front[0].values)
    lines = [
        f"  trial {row.number} {row.strategy}: {', '.join(f'{name} {_written(v)}' for name, v in row.values.items())}"
        for row in front
    ]
    trials = "1 finished trial" if len(front) == 1 else f"{len(front)} finished trials"
    return [f"Pareto front: {trials} that no other one beats in {named}", *lines]


def _written(value: float) -> str:
    """Six digits, but all of a whole number's: a count of parameters."""
    return f"{value:.0f}" if value.is_integer() else f"{value:.6g}"


def _row(record: TrialRecord, objectives: Sequence[Objective]) -> FrontRow:
    values = objective_values(objectives, score=record.map, measures=measures_of(record))
    return FrontRow(record.number, record.strategy, dict(zip(objectives, values, strict=True)))
