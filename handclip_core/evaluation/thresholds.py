"""Thresholds for decisions in use: at stated false accept rates, with intervals over identities.

A score at or above the upper end of a threshold's interval is accepted, one below its lower end is rejected; what lies
between, the validation identities are too few to decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.similarity import as_tensor, cosine
from handclip_core.evaluation.verification import threshold_at

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
FARS = (1e-1, 1e-2, 1e-3, 1e-4)
"""Rates that thresholds are set for, as far as there are pairs enough."""
MOST_IMAGES = 2000
"""Of more images, whole identities are left out at random: pairs grow with the square."""
RESAMPLES = 400
LEVEL = 0.95
TOP = 0.5
"""Share of the highest impostor scores that resamples read; rates that thresholds are set for are far below."""


class Threshold(Config):
    """The threshold for a false accept rate of a comparison, and its interval from ``low`` to ``high``."""

    far: float = Field(gt=0, lt=1)
    """False accepts a comparison of two people."""
    value: float
    """Scores at or above it are accepted if nothing but the rate counts."""
    low: float
    """2.5th percentile of the threshold over resampled identities."""
    high: float
    """97.5th percentile."""
    tar: float
    """Share of the genuine pairs at or above ``value``."""


class Thresholds(Config):
    """Thresholds from pairs of images, and the rates that the data cannot support."""

    points: tuple[Threshold, ...] = ()
    """By falling rate."""
    refused: tuple[str, ...] = ()
    """Why a rate has no threshold."""
    num_identities: int = 0
    """People that were compared."""
    num_genuine: int = 0
    """Pairs of one person."""
    num_impostor: int = 0
    """Pairs of two."""
    origin: str = ""
    """Which model they were measured with, if not with the one that they are saved with."""

    def at(self, far: float | None) -> Threshold:
        """The threshold for ``far``, by default the lowest rate there is; raises InputError if it was not set."""
        if not self.points:
            raise InputError(f"there is no threshold: {'; '.join(self.refused) or 'none was set'}")
        if far is None:
            return self.points[-1]
        found = [point for point in self.points if np.isclose(point.far, far)]
        if not found:
            there = ", ".join(f"{point.far:g}" for point in self.points)
            why = next((f" ({reason})" for reason in self.refused if reason.startswith(f"{far:g}:")), "")
            raise InputError(f"--far {far:g}: no threshold was set for this rate; there are {there}{why}")
        return found[0]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Impostor scores in descending order [N] with the identities [N] of both sides, and genuine ones [M]."""

    genuine: Values
    impostor: Values
    left: Ints
    right: Ints
    num_identities: int


def fit_thresholds(
    embeddings: NDArray[Any] | Tensor,
    identities: Ids,
    groups: Ids,
    *,
    similarity: Callable[[Tensor, Tensor], Tensor] = cosine,
    fars: Sequence[float] = FARS,
    seed: int = 0,
) -> Thresholds:
    """Thresholds from all pairs of embeddings [N, D] within a group (the aspects), no image with itself.

    A rate is refused if fewer than 3 false accepts are expected at it. Intervals are percentiles over resamples of the
    identities, each pair counted as often as both of its identities were drawn.
    """
    codes, same = identity_codes(identities, names=("identities",))[0], identity_codes(groups, names=("groups",))[0]
    kept = _kept(codes, np.random.default_rng(seed))
    pairs = _pairs(as_tensor(embeddings)[kept], codes[kept], same[kept], similarity)
    if not len(pairs.genuine) or not len(pairs.impostor):
        return Thresholds(refused=("the validation images hold no pairs of one person, or none of two",))
    samples = _resampled(pairs, fars, np.random.default_rng(seed))
    points, refused = [], []
    for far, found in zip(fars, samples, strict=True):
        try:
            value = threshold_at(pairs.impostor, far, what="impostor pairs in validation")
        except InputError as error:
            refused.append(f"{far:g}: {error}")
            continue
        low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        tar = float(np.mean(pairs.genuine >= value))
        points.append(Threshold(far=far, value=value, low=min(low, value), high=max(high, value), tar=tar))
    return Thresholds(
        points=tuple(points),
        refused=tuple(refused),
        num_identities=pairs.num_identities,
        num_genuine=len(pairs.genuine),
        num_impostor=len(pairs.impostor),
    )


def _kept(codes: Ints, random: np.random.Generator) -> Ints:
    """Rows of as many identities as have MOST_IMAGES images together."""
    if len(codes) <= MOST_IMAGES:
        return np.arange(len(codes))
    order = random.permutation(codes.max() + 1)
    enough = np.cumsum(np.bincount(codes)[order]) <= MOST_IMAGES
    return np.flatnonzero(np.isin(codes, order[enough]))


def _pairs(embeddings: Tensor, codes: Ints, groups: Ints, similarity: Callable[[Tensor, Tensor], Tensor]) -> _Pairs:
    table = similarity(embeddings, embeddings).cpu().numpy()
    left, right = np.triu_indices(len(codes), k=1)
    within = groups[left] == groups[right]
    left, right = left[within], right[within]
    scores = table[left, right].astype(np.float64)
    genuine = codes[left] == codes[right]
    order = np.argsort(-scores[~genuine], kind="stable")
    left, right = codes[left[~genuine]][order], codes[right[~genuine]][order]
    return _Pairs(scores[genuine], scores[~genuine][order], left, right, len(np.unique(codes)))


def _resampled(pairs: _Pairs, fars: Sequence[float], random: np.random.Generator) -> Values:
    """The threshold for each rate in each resample of the identities [len(fars), RESAMPLES]."""
    left, right = pairs.left, pairs.right
    people = np.unique(np.concatenate([left, right]))
    size = int(people.max()) + 1
    together = np.zeros((size, size))
    np.add.at(together, (left, right), 1)
    top = max(1000, int(TOP * len(left)))
    found = np.empty((len(fars), RESAMPLES))
    for number in range(RESAMPLES):
        weight = np.bincount(random.choice(people, len(people)), minlength=size).astype(np.float64)
        accepted = np.cumsum(weight[left[:top]] * weight[right[:top]])
        allowed = np.asarray(fars) * (weight @ together @ weight)
        # The first score that would let too many through: the threshold lies just above it.
        first = np.minimum(np.searchsorted(accepted, allowed, side="right"), len(accepted) - 1)
        found[:, number] = pairs.impostor[first]
    return found
