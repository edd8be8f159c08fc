"""Several models as one: fusion of features, of scores, and by votes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids
from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.evaluation.similarity import normalised
from handclip_core.evaluation.verification import gallery_pair_scores
from handclip_core.types import Aspect

Matrix = NDArray[np.float64]
STEPS = 20
"""Shares of a model that are tried when weights are fitted: 0, 1/20 ... 1."""
ROUNDS = 10
"""At most so many passes over the models."""


class FeatureFusion(StrEnum):
    """How embeddings of several models become one."""

    MEAN = "mean"
    """The weighted mean; the models need the same number of dimensions, and mean the same by them."""
    CONCAT = "concat"
    """Side by side: the cosine is then the weighted mean of the models' cosines, with squared weights."""


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
    ``map`` is what the fusion reached on validation.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    map: float

    def __call__(self, similarities: Sequence[NDArray[Any]]) -> Matrix:
        """Fused scores [Q, G] of the models' similarities [Q, G], in the order in which they were fitted."""
        return _weighted(
            _standardised(_checked(similarities, len(self.weights)), self.means, self.deviations), self.weights
        )


def fuse_features(
    embeddings: Sequence[NDArray[Any] | Tensor],
    *,
    how: FeatureFusion = FeatureFusion.CONCAT,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Unit embeddings of several models, each [N, D_m], as one unit embedding: [N, D] (mean) or [N, sum D_m].

    Each is normalised first. Raises InputError if numbers of rows differ, or for the mean those of dimensions.
    """
    shares = _weights(weights, len(embeddings))
    units = [normalised(embedding) for embedding in embeddings]
    if len({len(unit) for unit in units}) > 1:
        raise InputError(f"the models have embeddings of {[len(unit) for unit in units]} images; they need the same")
    scaled = [unit * share for unit, share in zip(units, shares, strict=True)]
    if how is FeatureFusion.CONCAT:
        return normalised(torch.cat(scaled, dim=1)).float()
    if len({unit.shape[1] for unit in units}) > 1:
        raise InputError(f"embeddings of {[unit.shape[1] for unit in units]} dimensions have no mean; use 'concat'")
    return normalised(torch.stack(scaled).sum(dim=0)).float()


def fit_score_fusion(validation: Sequence[ValidationSet]) -> ScoreFusion:
    """Weights with the highest mean mAP over the sets (one a gallery split), by trying shares of one model after the
    other.

    Starts from equal weights and stops when no share of any model is better. Raises InputError if the sets do not
    have the same number of models.
    """
    if not validation:
        raise InputError("weights cannot be fitted without a validation set")
    num = len(validation[0].similarities)
    impostors = [
        np.concatenate(
            [
                gallery_pair_scores(np.asarray(s.similarities[m]), s.query_ids, s.gallery_ids).impostor
                for s in validation
            ]
        )
        for m in range(num)
    ]
    means = tuple(float(scores.mean()) for scores in impostors)
    deviations = tuple(float(scores.std()) or 1.0 for scores in impostors)
    sets = [_standardised(_checked(one.similarities, num), means, deviations) for one in validation]

    def mean_map(weights: Sequence[float]) -> float:
        scores = [
            retrieval_scores(_weighted(matrices, weights), one.query_ids, one.gallery_ids).map
            for matrices, one in zip(sets, validation, strict=True)
        ]
        return float(np.mean(scores))

    weights = tuple(1 / num for _ in range(num))
    best = mean_map(weights)
    for _ in range(ROUNDS):
        before = best
        for trial in _neighbours(weights):
            score = mean_map(trial)
            if score > best:
                best, weights = score, trial
        if best == before:
            break
    return ScoreFusion(weights, means, deviations, best)


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


def _weights(weights: Sequence[float] | None, num: int) -> tuple[float, ...]:
    if num < 1:
        raise InputError("there is no model to fuse")
    chosen = tuple(float(weight) for weight in weights) if weights is not None else (1.0,) * num
    if len(chosen) != num or min(chosen) < 0 or not sum(chosen) > 0:
        raise InputError(f"weights are {list(chosen)}; {num} models need as many, none negative and not all zero")
    return chosen


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
