"""What an evaluation is: figures, and the single results behind them, which intervals and comparisons resample."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handclip_core.data.manifest import Prepared
from handclip_core.evaluation.questions import Questions

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


@dataclass(frozen=True, eq=False)
class Confusions:
    """What images are taken for: their number by class ``names`` and answer, ``counts`` [P, P].

    ``rows`` [n] of the manifest show ``truth`` [n] and are taken for ``answer`` [n].
    """

    names: tuple[str, ...]
    counts: Ints
    rows: Ints
    truth: Ints
    answer: Ints

    def most(self, num: int) -> list[tuple[int, int]]:
        """Of the pairs of a class and another that its images are taken for, those of most images, in that order."""
        wrong = self.counts - np.diag(self.counts.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:num]
        pairs = [(int(at) // len(self.names), int(at) % len(self.names)) for at in order]
        return [pair for pair in pairs if wrong[pair]]

    def shown_by(self, truth: int, answer: int) -> list[int]:
        """The rows of the images of a class that are taken for another."""
        return [int(row) for row in self.rows[(self.truth == truth) & (self.answer == answer)]]


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
    def files(self) -> dict[str, str | bytes]:
        """Tables and images that are kept beside the figures, by name."""
        return {}

    @property
    def text(self) -> str:
        """The figures in detail as Markdown, which people read."""
        return ""

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """What the report of a sweep shows of a model in detail, by title: words, fractions and counts."""
        return {}

    @property
    def confusions(self) -> Confusions | None:
        """What is taken for what, in tasks whose answers are classes."""
        return None

    def questions(self, data: Prepared) -> Questions | None:
        """What was asked of the images in ``data``, which were evaluated; None if the task does not show it.

        Raises InputError if ``data`` are not those.
        """
        del data
        return None

    def mean(self, metric: str) -> float:
        """One of ``metrics``."""
        return self.metrics[metric]

    def objective_of(self, part: str) -> float:
        """The task's objective on one part of the data alone; NaN if the part was not evaluated, or there is none."""
        del part
        return float("nan")
