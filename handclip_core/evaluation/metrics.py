"""The validation metrics of a run by name and label, and those of the task ``identities``.

A metric goes from the validation of a unit to the tables of a sweep in one dict, by its name. Each task says which it
has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


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
    compared: bool = False
    """Whether ``compare`` has a column for it, in tasks without galleries."""


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


@dataclass(frozen=True)
class Metrics:
    """The metrics of a task: ``every`` one that is measured at a unit of a run, the objective first."""

    every: tuple[Metric, ...]

    @property
    def objective(self) -> Metric:
        """What trials are ranked by, stopped early by, and searched for."""
        return self.every[0]

    @property
    def in_tables(self) -> tuple[Metric, ...]:
        """What the tables of a sweep show, the objective first."""
        return tuple(metric for metric in self.every if metric.in_tables or metric is self.objective)

    @property
    def in_finals(self) -> tuple[Metric, ...]:
        """What the finals show of a model, the objective first."""
        return tuple(metric for metric in self.in_tables if metric.over_seeds)

    @property
    def compared(self) -> tuple[Metric, ...]:
        """The columns of ``compare``, the objective first."""
        return tuple(metric for metric in self.every if metric.compared or metric is self.objective)

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(metric.name for metric in self.every)

    def over_seeds(self, seeds: Sequence[dict[str, float]]) -> dict[str, float]:
        """The metrics of one model, averaged over seeds where that means anything; otherwise those of the first."""
        averaged = [metric.name for metric in self.every if metric.over_seeds and metric.name in seeds[0]]
        return seeds[0] | {name: fmean(seed[name] for seed in seeds) for name in averaged}

    @property
    def hardly_moved(self) -> str:
        """What is said of a run whose objective stays as it was."""
        label = self.objective.label
        return f"{label} has moved by less than {LEAST_MOVE:.0%} of its gap to 1: the learning rate looks too small"


LEAST_MOVE = 0.01
"""By how much the objective differs among the units of a run that learns anything, in parts of its gap to 1."""


def hardly_moved(scores: Sequence[float]) -> bool:
    """Whether the objective's ``scores`` of a run's units, two at least, are all but the same."""
    return len(scores) > 1 and max(scores) - min(scores) < LEAST_MOVE * (1 - max(scores))
