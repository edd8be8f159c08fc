"""The metric of a model: a linear map fitted in closed form to its vectors of training images, without a gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import nan
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.models.closed_form import (
    Labels,
    LinearMap,
    Matrix,
    PooledCovariance,
    TwoCovariance,
    WithinClass,
    class_deviations,
    ledoit_wolf,
    principal_axes,
)
from handclip_core.models.held_out import Fold, HeldOut, Scores

MOST_DIMENSIONS = 2048
"""Longer vectors are reduced to so many principal components first: a covariance takes the cube of their number."""
SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
"""What ``validation`` chooses from."""
ALIKE = 1e-12
"""Vectors that differ from the mean by less than this, after the map, are the mean."""


class MetricKind(StrEnum):
    """How vectors are mapped before their cosine is taken."""

    NONE = "none"
    PCA = "pca"
    WCCN = "wccn"
    LDA = "lda"
    WEIGHTED_LDA = "weighted_lda"
    PLDA = "plda"


DISCRIMINATING = (MetricKind.LDA, MetricKind.WEIGHTED_LDA, MetricKind.PLDA)
"""Kinds that look for directions which tell classes apart."""


class MetricSettings(Config):
    """A closed form on top of the embedding, fitted to the training images before each validation."""

    kind: MetricKind = MetricKind.NONE
    """``pca``, whitening by the total covariance (for retrieval: Radenovic 2019, arXiv 1711.02512, section 3.3);
    ``wccn``, by the covariance within classes (Hatch 2006); ``lda``, after ``wccn`` the directions that tell classes
    apart (Fukunaga 1990); ``weighted_lda``, the same with each direction by how much it tells, as in the inner products
    of ``plda``, the log-likelihood ratio of one class or two (Ioffe 2006) in place of the cosine, after ``lda`` and
    scaling to unit length (Garcia-Romero 2011)."""
    shrinkage: float | Literal["ledoit_wolf", "validation"] = 0.03
    """Share s of the covariance that becomes a multiple of the identity: a number from 0 to 1, ``ledoit_wolf`` for
    their estimate, or ``validation``: the best mAP on held-out thirds of the *training* identities."""
    dim: int | None = Field(None, ge=2, le=MOST_DIMENSIONS)
    """Most dimensions of each vector of the result: principal components for ``pca`` and ``wccn``, discriminants for
    the others; none for all, which are fewer than training images, and 2,048 at most."""
    vectors: Literal["all", "validation"] = "all"
    """Which vectors of an embedding that is made of several count: ``all`` alike, or ``validation``, those that
    together find most on held-out thirds of the *training* identities, each as often as it was taken (greedy selection
    with replacement: Caruana 2004, doi 10.1145/1015330.1015432). The others are left out, as zeros."""

    @field_validator("shrinkage", mode="before")
    @classmethod
    def _share_or_way(cls, given: object) -> object:
        if given in ("ledoit_wolf", "validation"):
            return given
        try:
            share = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            share = nan
        if not 0 <= share <= 1:
            raise ValueError(f"{given!r} is no share: choose from 0 to 1, ledoit_wolf or validation")
        return share

    def build(self, widths: tuple[int, ...], *, num_images: int, num_classes: int) -> "Metric":
        """A metric for embeddings that consist of vectors of ``widths``; each is mapped by itself.

        Raises InputError if there are too few training images or classes for a single dimension.
        """
        if self.kind is MetricKind.NONE:
            return Metric(self, widths, widths)
        num, what = (num_classes, "classes") if self.kind in DISCRIMINATING else (num_images, "images")
        if num < 2:
            raise InputError(f"neck.metric: {self.kind} needs two training {what} at least; there are {num}")
        most = num - 1
        return Metric(self, widths, tuple(min(width, self.limit, most) for width in widths))

    @property
    def limit(self) -> int:
        """Most dimensions of a vector of the result."""
        return self.dim or MOST_DIMENSIONS


class Metric(nn.Module):
    """What becomes of an embedding [B, sum of ``widths``] for retrieval: [B, sum of ``mapped_widths``].

    An embedding that is made of several vectors is mapped vector by vector, to unit length each, so that its cosine is
    the mean of theirs. Without a kind it stays as it is.
    """

    def __init__(self, settings: MetricSettings, widths: tuple[int, ...], mapped_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.settings, self.widths, self.mapped_widths = settings, widths, mapped_widths
        self.active = settings.kind is not MetricKind.NONE
        self.parts = nn.ModuleList(
            _Part(width, mapped, likelihood=settings.kind is MetricKind.PLDA, weighed=settings.vectors == "validation")
            for width, mapped in zip(widths, mapped_widths, strict=True)
            if self.active
        )

    @property
    def width(self) -> int:
        """The width W of the result."""
        return sum(self.mapped_widths)

    @property
    def compares(self) -> bool:
        """Whether it has a score of its own, instead of the cosine."""
        return self.settings.kind is MetricKind.PLDA

    def forward(self, embedding: Tensor) -> Tensor:
        """The mapped embedding [B, W]."""
        if not self.active:
            return embedding
        precise = next(self.buffers()).dtype
        parts = embedding.to(precise).split(self.widths, dim=1)
        return torch.cat([part(vectors) for part, vectors in zip(self.parts, parts, strict=True)], dim=1)

    def similarity(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """The sum over vectors, by their shares, of the log-likelihood ratios [Q, G] of mapped [Q, W] and [G, W]."""
        sides = [side.split(self.mapped_widths, dim=1) for side in (queries, gallery)]
        scores = [part.likelihood_ratio(*both) for part, *both in zip(self.parts, *sides, strict=True)]
        return torch.stack(scores).sum(dim=0)

    def fit(self, embedding: NDArray[np.float32], labels: Labels, identities: Labels) -> None:
        """Fit to training images: their embeddings [n, sum of widths], classes [n] and identities [n].

        Raises InputError if they do not support the covariance that is asked for.
        """
        ends = np.cumsum(self.widths)
        columns = [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]
        held_out = HeldOut(labels, identities)
        ways = [
            self._way(unit_vectors(embedding[:, at].astype(np.float64)), labels, mapped, held_out)
            for at, mapped in zip(columns, self.mapped_widths, strict=True)
        ]
        chosen = self.settings.vectors == "validation"
        shares = held_out.shares([way.scores for way in ways]) if chosen else (1.0,) * len(ways)
        for part, at, mapped, way, share in zip(self.parts, columns, self.mapped_widths, ways, shares, strict=True):
            assert isinstance(part, _Part)
            if share:
                vectors = unit_vectors(embedding[:, at].astype(np.float64))
                part.take(*self._fits(vectors, labels, mapped)(way.shrinkage), way.shrinkage)
            if chosen:
                part.share.fill_(share)

    def shrinkages(self) -> tuple[float, ...]:
        """The shrinkage that was used for each vector."""
        return tuple(float(part.shrinkage) for part in self.parts if isinstance(part, _Part))

    def shares(self) -> tuple[float, ...]:
        """How much each vector counts in the cosine, or the likelihood ratio; they sum to one."""
        found = [float(part.share) if part.weighed else 1.0 for part in self.parts if isinstance(part, _Part)]
        return tuple(share / sum(found) for share in found)

    def _way(self, vectors: Matrix, labels: Labels, mapped: int, held_out: HeldOut) -> "_Way":
        """The shrinkage for one vector, and how alike it then finds held-out images, if either is to be chosen."""
        given = self.settings.shrinkage
        if given == "ledoit_wolf":
            pooled = self.settings.kind is MetricKind.PCA
            given = ledoit_wolf(vectors - vectors.mean(axis=0) if pooled else class_deviations(vectors, labels))
        if given != "validation" and self.settings.vectors == "all":
            return _Way(float(given), [])
        tried = SHRINKAGES if given == "validation" else (float(given),)
        by_fold = [self._held_out_scores(vectors, labels, mapped, fold, tried) for fold in held_out.folds]
        ways = [_Way(one, [scores[one] for scores in by_fold]) for one in tried]
        return max(ways, key=lambda way: held_out.quality(way.scores))

    def _held_out_scores(
        self, vectors: Matrix, labels: Labels, mapped: int, fold: Fold, shrinkages: Sequence[float]
    ) -> dict[float, Scores]:
        """How alike [m, m] the images of a fold are to a metric that is fitted to the others, for each shrinkage."""
        known, shown = labels[fold.known], vectors[fold.held_out]
        nothing = np.zeros((len(shown), len(shown)), np.float32)
        if len(np.unique(known)) < 2:
            return dict.fromkeys(shrinkages, nothing)
        try:
            fit = self._fits(vectors[fold.known], known, min(mapped, len(np.unique(known)) - 1))
        except InputError:  # no class of which two images are known
            return dict.fromkeys(shrinkages, nothing)
        found = {}
        for shrinkage in shrinkages:
            try:
                whole, model = fit(shrinkage)
            except InputError:  # too little shrinkage for so few images
                found[shrinkage] = nothing
                continue
            units = unit_vectors(whole(shown))
            scores = units @ units.T if model is None else model.scores(units, units)
            found[shrinkage] = scores.astype(np.float32)
        return found

    def _fits(
        self, vectors: Matrix, labels: Labels, mapped: int
    ) -> Callable[[float], tuple[LinearMap, TwoCovariance | None]]:
        """From a shrinkage to the map of ``vectors`` and the model behind it; what all need is computed once."""
        kind, reduced = self.settings.kind, vectors
        first: LinearMap | None = None
        few = min(
            self.settings.limit if kind in (MetricKind.PCA, MetricKind.WCCN) else MOST_DIMENSIONS, len(vectors) - 1
        )
        if vectors.shape[1] > few:
            first = principal_axes(vectors, few)
            reduced = first(vectors)
        spread = PooledCovariance(reduced) if kind is MetricKind.PCA else WithinClass(reduced, labels)

        def fit(shrinkage: float) -> tuple[LinearMap, TwoCovariance | None]:
            if isinstance(spread, PooledCovariance) or kind is MetricKind.WCCN:
                second = spread.whitening(shrinkage)
            else:
                second = spread.discriminants(shrinkage, dim=mapped, weighted=kind is MetricKind.WEIGHTED_LDA)
            whole = second if first is None else first.then(second)
            if kind is not MetricKind.PLDA:
                return whole, None
            return whole, WithinClass(unit_vectors(whole(vectors)), labels).two_covariance(shrinkage)

        return fit


@dataclass(frozen=True)
class _Way:
    """A shrinkage, and how alike it finds the held-out images of each fold [m, m]."""

    shrinkage: float
    scores: list[Scores]


class _Part(nn.Module):
    """The map of one vector [R] of an embedding to [W], and the parameters of its likelihood ratio if wanted."""

    mean: Tensor
    matrix: Tensor
    shrinkage: Tensor
    model_mean: Tensor
    model_matrix: Tensor
    ratio: Tensor
    share: Tensor

    def __init__(self, width: int, mapped: int, *, likelihood: bool, weighed: bool) -> None:
        super().__init__()
        self.weighed = weighed
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width, mapped))
        self.register_buffer("shrinkage", torch.zeros(()))
        if likelihood:
            self.register_buffer("model_mean", torch.zeros(mapped))
            self.register_buffer("model_matrix", torch.eye(mapped))
            self.register_buffer("ratio", torch.ones(mapped))
        if weighed:
            self.register_buffer("share", torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [B, W] of unit length; of the root of its share if it has one, so that cosines add up by shares."""
        mapped = (F.normalize(vectors, dim=1) - self.mean) @ self.matrix
        # What a model that has collapsed makes of every image is the mean: all get one and the same direction.
        alike = mapped.abs().amax(dim=1, keepdim=True) < ALIKE
        units = F.normalize(torch.where(alike, mapped.new_ones(()), mapped), dim=1)
        return units * self.share.sqrt() if self.weighed else units

    def likelihood_ratio(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Scores [Q, G], in float64 and on the CPU, of unit vectors; they may come scaled."""
        mean, matrix, ratio = (each.double().cpu().numpy() for each in (self.model_mean, self.model_matrix, self.ratio))
        sides = (F.normalize(side.double().cpu(), dim=1).numpy() for side in (queries, gallery))
        scores = torch.from_numpy(TwoCovariance(LinearMap(mean, matrix), ratio).scores(*sides))
        return scores * float(self.share) if self.weighed else scores

    @torch.no_grad()
    def take(self, found: LinearMap, model: TwoCovariance | None, shrinkage: float) -> None:
        """Keep what was fitted."""
        self.mean.copy_(torch.from_numpy(found.mean))
        self.matrix.copy_(torch.from_numpy(found.matrix))
        self.shrinkage.fill_(shrinkage)
        if model is not None:
            self.model_mean.copy_(torch.from_numpy(model.map.mean))
            self.model_matrix.copy_(torch.from_numpy(model.map.matrix))
            self.ratio.copy_(torch.from_numpy(model.ratio))


def unit_vectors(vectors: Matrix) -> Matrix:
    """``vectors`` [n, R] at length one; zeros stay."""
    found: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found
