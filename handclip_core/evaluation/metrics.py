"""The validation metrics of a run: the one place that names and labels them. The first is the objective.

A metric goes from the validation of a unit to the tables of a sweep in one dict, by these names.
"""

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
