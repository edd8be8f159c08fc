"""The metric of a model: a linear map fitted in closed form to its vectors of training images, without a gradient."""

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
from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.models.closed_form import (
    Labels,
    LinearMap,
    Matrix,
    TwoCovariance,
    class_deviations,
    discriminants,
    folds,
    ledoit_wolf,
    pca_whitening,
    principal_axes,
    two_covariance,
    within_class_whitening,
)

MOST_DIMENSIONS = 2048
"""Longer vectors are reduced to so many principal components first: a covariance takes the cube of their number."""
SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
"""What ``validation`` chooses from."""
NUM_FOLDS = 3
ALIKE = 1e-12
"""Vectors that differ from the mean by less than this, after the map, are the mean."""


class MetricKind(StrEnum):
    """How vectors are mapped before their cosine is taken."""

    NONE = "none"
    PCA = "pca"
    WCCN = "wccn"
    LDA = "lda"
    PLDA = "plda"


class MetricSettings(Config):
    """A closed form on top of the embedding, fitted to the training images before each validation."""

    kind: MetricKind = MetricKind.NONE
    """``pca``, whitening by the total covariance (for retrieval: Radenovic 2019, arXiv 1711.02512, section 3.3);
    ``wccn``, by the covariance within classes (Hatch 2006); ``lda``, after ``wccn`` the directions that tell classes
    apart (Fukunaga 1990); ``plda``, the log-likelihood ratio of one class or two (Ioffe 2006) in place of the cosine,
    after ``lda`` and scaling to unit length (Garcia-Romero 2011)."""
    shrinkage: float | Literal["ledoit_wolf", "validation"] = 0.03
    """Share s of the covariance that becomes a multiple of the identity: a number from 0 to 1, ``ledoit_wolf`` for
    their estimate, or ``validation``: the best mAP on held-out thirds of the *training* identities."""
    dim: int | None = Field(None, ge=2, le=MOST_DIMENSIONS)
    """Most dimensions of each vector of the result: principal components for ``pca`` and ``wccn``, discriminants for
    ``lda`` and ``plda``; none for all, which are fewer than training images, and 2,048 at most."""

    @field_validator("shrinkage", mode="before")
    @classmethod
    def _share_or_way(cls, given: object) -> object:
        if given in ("ledoit_wolf", "validation"):
            return given
        try:
            share = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
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
        discriminating = self.kind in (MetricKind.LDA, MetricKind.PLDA)
        num, what = (num_classes, "classes") if discriminating else (num_images, "images")
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
            _Part(width, mapped, likelihood=settings.kind is MetricKind.PLDA)
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
        """The sum over vectors of the log-likelihood ratios [Q, G] of mapped embeddings [Q, W] and [G, W]."""
        sides = [side.split(self.mapped_widths, dim=1) for side in (queries, gallery)]
        scores = [part.likelihood_ratio(*both) for part, *both in zip(self.parts, *sides, strict=True)]
        return torch.stack(scores).sum(dim=0)

    def fit(self, embedding: NDArray[np.float32], labels: Labels, identities: Labels) -> None:
        """Fit to training images: their embeddings [n, sum of widths], classes [n] and identities [n].

        Raises InputError if they do not support the covariance that is asked for.
        """
        start = 0
        for part, width, mapped in zip(self.parts, self.widths, self.mapped_widths, strict=True):
            assert isinstance(part, _Part)
            vectors = unit_vectors(embedding[:, start : start + width].astype(np.float64))
            shrinkage = self._shrinkage(vectors, labels, identities, mapped)
            part.take(*self._fitted(vectors, labels, mapped, shrinkage), shrinkage)
            start += width

    def shrinkages(self) -> tuple[float, ...]:
        """The shrinkage that was used for each vector."""
        return tuple(float(part.shrinkage) for part in self.parts if isinstance(part, _Part))

    def _fitted(
        self, vectors: Matrix, labels: Labels, mapped: int, shrinkage: float
    ) -> tuple[LinearMap, TwoCovariance | None]:
        kind, first, reduced = self.settings.kind, None, vectors
        few = min(
            self.settings.limit if kind in (MetricKind.PCA, MetricKind.WCCN) else MOST_DIMENSIONS, len(vectors) - 1
        )
        if vectors.shape[1] > few:
            first = principal_axes(vectors, few)
            reduced = first(vectors)
        if kind is MetricKind.PCA:
            second = pca_whitening(reduced, shrinkage=shrinkage)
        elif kind is MetricKind.WCCN:
            second = within_class_whitening(reduced, labels, shrinkage=shrinkage)
        else:
            second = discriminants(reduced, labels, shrinkage=shrinkage, dim=mapped)
        whole = (
            second
            if first is None
            else LinearMap(first.mean + first.matrix @ second.mean, first.matrix @ second.matrix)
        )
        model = None
        if kind is MetricKind.PLDA:
            model = two_covariance(unit_vectors(whole(vectors)), labels, shrinkage=shrinkage)
        return whole, model

    def _shrinkage(self, vectors: Matrix, labels: Labels, identities: Labels, mapped: int) -> float:
        given = self.settings.shrinkage
        if given == "ledoit_wolf":
            pooled = self.settings.kind is MetricKind.PCA
            return ledoit_wolf(vectors - vectors.mean(axis=0) if pooled else class_deviations(vectors, labels))
        if given == "validation":
            return max(SHRINKAGES, key=lambda one: self._held_out_map(vectors, labels, identities, mapped, one))
        return float(given)

    def _held_out_map(
        self, vectors: Matrix, labels: Labels, identities: Labels, mapped: int, shrinkage: float
    ) -> float:
        found = []
        for held_out in folds(identities, NUM_FOLDS):
            known = labels[~held_out]
            dim = min(mapped, len(np.unique(known)) - 1)
            try:
                whole, model = self._fitted(vectors[~held_out], known, dim, shrinkage)
                units = unit_vectors(whole(vectors[held_out]))
                scores = units @ units.T if model is None else model.scores(units, units)
                who = labels[held_out]
                found.append(retrieval_scores(scores, who, who, exclude=np.eye(len(who), dtype=bool)).map)
            except InputError:  # too little shrinkage for so few images, or a fold without a match
                found.append(0.0)
        return float(np.mean(found))


class _Part(nn.Module):
    """The map of one vector [R] of an embedding to [W], and the parameters of its likelihood ratio if wanted."""

    mean: Tensor
    matrix: Tensor
    shrinkage: Tensor
    model_mean: Tensor
    model_matrix: Tensor
    ratio: Tensor

    def __init__(self, width: int, mapped: int, *, likelihood: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width, mapped))
        self.register_buffer("shrinkage", torch.zeros(()))
        if likelihood:
            self.register_buffer("model_mean", torch.zeros(mapped))
            self.register_buffer("model_matrix", torch.eye(mapped))
            self.register_buffer("ratio", torch.ones(mapped))

    def forward(self, vectors: Tensor) -> Tensor:
        """Unit vectors [B, W]."""
        mapped = (F.normalize(vectors, dim=1) - self.mean) @ self.matrix
        # What a model that has collapsed makes of every image is the mean: all get one and the same direction.
        alike = mapped.abs().amax(dim=1, keepdim=True) < ALIKE
        return F.normalize(torch.where(alike, torch.ones_like(mapped), mapped), dim=1)

    def likelihood_ratio(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Scores [Q, G], in float64 and on the CPU, of unit vectors; they may come scaled."""
        mean, matrix, ratio = (each.double().cpu().numpy() for each in (self.model_mean, self.model_matrix, self.ratio))
        sides = (F.normalize(side.double().cpu(), dim=1).numpy() for side in (queries, gallery))
        return torch.from_numpy(TwoCovariance(LinearMap(mean, matrix), ratio).scores(*sides))

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
