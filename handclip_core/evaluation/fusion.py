"""Several models as one: weights of their scores, fitted on validation, and votes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids
from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.evaluation.verification import gallery_pair_scores
from handclip_core.types import Aspect

Matrix = NDArray[np.float64]
STEPS = 20
"""Shares of a model that are tried when weights are fitted: 0, 1/20 ... 1."""
LEAST_DEVIATION = 1e-5
"""Scores that differ less are of a model that has collapsed: cosines of float32 vectors are off by 1e-7."""
ROUNDS = 10
"""At most so many passes over the models."""


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """What weights are fitted on: similarities of each model [Q, G] between the same queries and gallery."""

    similarities: Sequence[NDArray[Any]]
    query_ids: Ids
    gallery_ids: Ids


@dataclass(frozen=True, eq=False)
class Search:
    """Queries and their gallery: positions [Q] and [G] in rows of embeddings, and whose images they are."""

    query: NDArray[np.int64]
    gallery: NDArray[np.int64]
    query_ids: Ids
    gallery_ids: Ids


class Calibrator(Protocol):
    """What a model may set its few free numbers by: validation images, embedded by itself, and searches in them."""

    def embedded(self, model: Any, inputs: Any) -> Tensor:
        """Embeddings [n, W] of the validation images, of length one, on the CPU."""
        ...

    def searches(self, aspect: Aspect) -> Sequence[Search]:
        """The searches for the images of an aspect, in some gallery splits; none in tasks without galleries."""
        ...


@dataclass(frozen=True)
class ScoreFusion:
    """Weighted sum of standardised scores: sum_m weight_m (s_m - mean_m) / deviation_m, weights adding up to 1.

    Mean and deviation are those of the impostor scores in validation: models of unlike spread come to one scale.
    ``map`` is what the fusion reached on validation, NaN if nothing was fitted.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    map: float = nan

    @classmethod
    def of_cosines(cls, weights: Sequence[float]) -> Self:
        """These weights, of scores that are of one scale already."""
        return cls(tuple(weights), (0.0,) * len(weights), (1.0,) * len(weights))

    def __call__(self, similarities: Sequence[NDArray[Any]]) -> Matrix:
        """Fused scores [Q, G] of the models' similarities [Q, G], in the order in which they were fitted."""
        return _weighted(
            _standardised(_checked(similarities, len(self.weights)), self.means, self.deviations), self.weights
        )


def fit_score_fusion(validation: Sequence[ValidationSet], *, standardise: bool = True) -> ScoreFusion:
    """Weights with the highest mean mAP over the sets (one a gallery split), by `search_weights`.

    Without ``standardise``, scores are added as they are: means are 0 and deviations 1. Raises InputError if the sets
    do not have the same number of models.
    """
    if not validation:
        raise InputError("weights cannot be fitted without a validation set")
    num = len(validation[0].similarities)
    means, deviations = _scale(validation) if standardise else ((0.0,) * num, (1.0,) * num)
    sets = [_standardised(_checked(one.similarities, num), means, deviations) for one in validation]

    def mean_map(weights: Sequence[float]) -> float:
        scores = [
            retrieval_scores(_weighted(matrices, weights), one.query_ids, one.gallery_ids).map
            for matrices, one in zip(sets, validation, strict=True)
        ]
        return float(np.mean(scores))

    weights, best = search_weights(num, mean_map)
    return ScoreFusion(weights, means, deviations, best)


def equal_score_fusion(validation: Sequence[ValidationSet]) -> ScoreFusion:
    """Equal weights of scores brought to one scale."""
    means, deviations = _scale(validation)
    return ScoreFusion((1 / len(means),) * len(means), means, deviations)


def search_weights(num: int, objective: Callable[[Sequence[float]], float]) -> tuple[tuple[float, ...], float]:
    """Weights of ``num`` models, adding up to 1, with a high ``objective``, and its value there.

    Tries shares of one model after the other, the rest keeping their proportions, from equal weights on, and stops when
    no share of any model is better. Of two models that is a whole grid. No random number; of weights that are equally
    good the most equal ones are taken.
    """
    weights = tuple(1 / num for _ in range(num))
    best = objective(weights), 0.0
    for _ in range(ROUNDS):
        before = best
        for trial in _neighbours(weights):
            found = objective(trial), -float(np.var(trial))
            if found > best:
                best, weights = found, trial
        if best == before:
            break
    return weights, best[0]


def _scale(validation: Sequence[ValidationSet]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the impostor scores of each model; a deviation of 1 if there is none but of rounding."""
    impostors = [
        np.concatenate(
            [
                gallery_pair_scores(np.asarray(s.similarities[m]), s.query_ids, s.gallery_ids).impostor
                for s in validation
            ]
        )
        for m in range(len(validation[0].similarities))
    ]
    return (
        tuple(float(scores.mean()) for scores in impostors),
        tuple(float(scores.std()) if scores.std() > LEAST_DEVIATION else 1.0 for scores in impostors),
    )


def vote(similarities: Sequence[NDArray[Any]]) -> Matrix:
    """Scores [Q, G] by votes: how many models put an entry first, and among equals the Borda count over all models.

    The Borda count is the share of the gallery that an entry beats, equal similarities counting half. If several
    entries are first for a model, all of them get its vote.
    """
    matrices = _checked(similarities, len(similarities))
    first = sum((matrix == matrix.max(axis=1, keepdims=True)).astype(np.float64) for matrix in matrices)
    borda = sum(_beaten(matrix) for matrix in matrices) / (len(matrices) * matrices[0].shape[1] + 1)
    return np.asarray(first + borda)


def _beaten(matrix: Matrix) -> Matrix:
    """How many entries of its row each entry [Q, G] beats, equal ones counting half."""
    beaten = np.empty_like(matrix)
    for index, row in enumerate(matrix):
        ordered = np.sort(row)
        beaten[index] = (
            np.searchsorted(ordered, row, side="left") + np.searchsorted(ordered, row, side="right") - 1
        ) / 2
    return beaten


def _neighbours(weights: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Weights in which one model has another share and the others keep their proportions."""
    found = []
    for model in range(len(weights)):
        rest = 1 - weights[model]
        others = [weight / rest if rest > 0 else 1 / max(1, len(weights) - 1) for weight in weights]
        for share in np.linspace(0, 1, STEPS + 1).tolist():
            found.append(tuple(share if m == model else others[m] * (1 - share) for m in range(len(weights))))
    return found


def _checked(similarities: Sequence[NDArray[Any]], num: int) -> list[Matrix]:
    matrices = [np.asarray(matrix, dtype=np.float64) for matrix in similarities]
    if not matrices or len(matrices) != num:
        raise InputError(f"similarities of {len(matrices)} models were given, {max(num, 1)} are needed")
    shapes = {matrix.shape for matrix in matrices}
    if len(shapes) > 1 or matrices[0].ndim != 2 or not matrices[0].size:
        raise InputError(f"similarities are {[list(matrix.shape) for matrix in matrices]}; they need one shape, [Q, G]")
    if any(np.isnan(matrix).any() for matrix in matrices):
        raise InputError("a similarity is NaN")
    return matrices


def _standardised(matrices: list[Matrix], means: Sequence[float], deviations: Sequence[float]) -> list[Matrix]:
    return [(matrix - mean) / spread for matrix, mean, spread in zip(matrices, means, deviations, strict=True)]


def _weighted(matrices: Sequence[Matrix], weights: Sequence[float]) -> Matrix:
    return np.asarray(sum(matrix * weight for matrix, weight in zip(matrices, weights, strict=True)))
