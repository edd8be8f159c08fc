"""The validation metrics of a run: the one place that names and labels them. The first is the objective.

A metric goes from the validation of a unit to the tables of a sweep in one dict, by these names.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure of a model on the validation split; more is better."""

    name: str
    label: str
    """Its heading in tables."""
    in_tables: bool = False
    """Whether it has a column in the tables of a sweep."""
    over_seeds: bool = True
    """Whether several seeds are averaged; otherwise it is that of the weights that are kept, those of the first."""


RANKING = (
    Metric("map", "mAP", in_tables=True),
    Metric("map_trapezoid", "mAP trap."),
    Metric("minp", "mINP"),
    Metric("cmc1", "rank-1", in_tables=True),
    Metric("cmc5", "rank-5"),
    Metric("cmc10", "rank-10"),
)
"""Those of rankings of the gallery."""
RETENTION = "retention"
"""The share of zero-shot mAP that fine-tuning has left in place."""
METRICS = (*RANKING, Metric(RETENTION, RETENTION, in_tables=True, over_seeds=False))
OBJECTIVE = METRICS[0]
"""What trials are ranked by, stopped early by, and searched for."""
FINAL_METRICS = tuple(metric for metric in RANKING if metric.in_tables)
"""What the finals show of a model, the objective first."""
TABLE_METRICS = tuple(metric for metric in METRICS if metric.in_tables)
LEAST_MOVE = 0.01
"""By how much the objective differs among the units of a run that learns anything, in parts of its gap to 1."""
HARDLY_MOVED = (
    f"{OBJECTIVE.label} has moved by less than {LEAST_MOVE:.0%} of its gap to 1: the learning rate looks too small"
)


def hardly_moved(scores: Sequence[float]) -> bool:
    """Whether the objective's ``scores`` of a run's units, two at least, are all but the same."""
    return len(scores) > 1 and max(scores) - min(scores) < LEAST_MOVE * (1 - max(scores))
