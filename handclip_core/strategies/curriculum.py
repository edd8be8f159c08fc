"""From easy images to hard ones."""

from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from handclip_core.data.difficulty import centre_distance, metadata_difficulty, prototype_loss
from handclip_core.data.samplers import Pool
from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import DataSpec, Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy


class Difficulty(StrEnum):
    """What makes an image hard: what the data say of it, or what CLIP makes of it."""

    METADATA = "metadata"
    DISTANCE = "distance"
    LOSS = "loss"


class Pace(StrEnum):
    """How the share of images grows from phase to phase."""

    LINEAR = "linear"
    ROOT = "root"
    EXPONENTIAL = "exponential"


class Direction(StrEnum):
    """Which images come first; ``hard_first`` and ``random`` are controls."""

    EASY_FIRST = "easy_first"
    HARD_FIRST = "hard_first"
    RANDOM = "random"


class Curriculum(TowerStrategy):
    """Full fine-tuning on a growing share of the images (Bengio 2009; Hacohen & Weinshall 2019, arXiv 1904.03626).

    Every class takes part from the first phase on, with its easiest images; the last phase shows all. Each phase has
    an optimiser and a schedule of its own, so the control is ``direction: random``, not ``full``.
    """

    name: Literal["curriculum"] = "curriculum"
    """Which strategy this is."""
    difficulty: Difficulty = Difficulty.DISTANCE
    """``metadata`` (accessories, nail polish, irregularities, aspect), by which all images are compared, for within a
    class they hardly differ; ``distance`` of zero-shot CLIP's embedding to the rest of its class; ``loss`` of a
    classifier by class means on those embeddings."""
    direction: Direction = Direction.EASY_FIRST
    """Which images come first."""
    pace: Pace = Pace.LINEAR
    """How the share of images grows from ``start`` to 1 (Wu 2021, arXiv 2012.03107)."""
    start: float = Field(0.4, gt=0, le=1)
    """Share of every class's images in the first phase."""
    steps: int = Field(3, ge=2, le=20)
    """Number of phases, of equal shares of the budget."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """A phase a step of the pace."""
        whole = self.data_spec(data)
        overall = self.difficulty is Difficulty.METADATA and self.direction is not Direction.RANDOM
        rank = overall_ranks if overall else class_ranks
        ranks = rank(self._difficulties(data, whole), whole.pool.labels)
        train, terms = self.trained(model), self.terms(model, data)
        return tuple(
            Phase(f"{share:.0%} of the images", _easiest(whole, ranks, share), train, terms, self.tower_optim(model))
            for share in shares(self.pace, start=self.start, steps=self.steps)
        )

    def _difficulties(self, data: TrainingData, whole: DataSpec) -> NDArray[np.float64]:
        """How late each image comes, by any increasing measure."""
        if self.direction is Direction.RANDOM:
            return np.random.default_rng(len(whole.rows)).random(len(whole.rows))
        found = _measured(self.difficulty, data, whole)
        return -found if self.direction is Direction.HARD_FIRST else found


def shares(pace: Pace, *, start: float, steps: int) -> tuple[float, ...]:
    """The share of images in each of ``steps`` phases, from ``start`` to 1."""
    times = np.linspace(0, 1, steps)
    grown = {
        Pace.LINEAR: start + (1 - start) * times,
        Pace.ROOT: np.sqrt(start**2 + (1 - start**2) * times),
        Pace.EXPONENTIAL: start ** (1 - times),
    }
    return tuple(float(share) for share in grown[pace])


def class_ranks(difficulty: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank [n] of every image among those of its class, in [0, 1); the easiest has 0, equal ones keep their order."""
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members[np.argsort(difficulty[members], kind="stable")]] = np.arange(len(members)) / len(members)
    return ranks


def overall_ranks(difficulty: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank [n] of every image among all, in [0, 1); equal ones alternate over classes, of which each has one at 0."""
    within = class_ranks(difficulty, labels)
    ranks = np.empty(len(labels))
    ranks[np.lexsort((within, difficulty))] = np.arange(len(labels)) / len(labels)
    return np.where(within == 0, 0.0, ranks)


def _measured(difficulty: Difficulty, data: TrainingData, whole: DataSpec) -> NDArray[np.float64]:
    if difficulty is Difficulty.METADATA:
        return metadata_difficulty(data.prepared.manifest.iloc[whole.rows])
    assert data.zero_shot is not None, "training data of an experiment context have zero-shot embeddings"
    embeddings = data.zero_shot(whole.rows)
    if difficulty is Difficulty.LOSS:
        return prototype_loss(embeddings, whole.pool.labels)
    return centre_distance(embeddings, [str(label) for label in whole.pool.labels])


def _easiest(whole: DataSpec, ranks: NDArray[np.float64], share: float) -> DataSpec:
    keep = ranks < share
    pool = Pool(whole.pool.labels[keep], whole.pool.aspects[keep])
    return DataSpec(whole.rows[keep], pool, sampler=whole.sampler, augment=whole.augment)
