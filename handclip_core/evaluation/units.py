"""What an evaluation is: figures, and the single results behind them, which intervals and comparisons resample."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """Single results ``values`` [M], whose figure is the mean over cells of the mean over each cell's results.

    ``cell`` [M] says which mean a result belongs to, ``cluster`` [M] what it is drawn together with in a resample:
    results of one identity, or of one image, are not independent.
    """

    values: Values
    cell: Ints
    cluster: Ints

    @staticmethod
    def together(values: Values, cluster: Ints) -> "Units":
        """Results whose figure is their plain mean."""
        return Units(values, np.zeros(len(values), np.int64), cluster)


class Evaluation(ABC):
    """How good the answers of a model are. Everything that compares models reads this, whatever the task."""

    @property
    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The figures, by the names of the task's metrics."""

    @abstractmethod
    def units(self, metric: str, part: str | None = None) -> Units:
        """The results behind one of ``metrics``, of all data or of one part of them: an aspect, a class.

        Raises InputError for an unknown part.
        """

    @property
    @abstractmethod
    def answers(self) -> NDArray[Any]:
        """What was answered to each question [M]; equal for two models that are the same function."""

    @abstractmethod
    def check_same(self, other: Self) -> None:
        """Raise InputError unless ``other`` answers the same questions, so that the two can be compared in pairs."""

    @property
    def files(self) -> dict[str, str]:
        """Tables that are kept beside the figures, by name; ``report.md`` is what people read."""
        return {}

    def mean(self, metric: str) -> float:
        """One of ``metrics``."""
        return self.metrics[metric]

    def objective_of(self, part: str) -> float:
        """The task's objective on one part of the data alone; NaN if the part was not evaluated, or there is none."""
        del part
        return float("nan")
