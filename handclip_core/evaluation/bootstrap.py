"""Confidence by resampling people: intervals of one model, and paired comparison of two.

Comparisons share identities, so neither queries nor pairs are independent; identities are (ISO/IEC 19795-1:2021). A
resample draws as many identities as there are, with replacement, and counts all queries of an identity, in every aspect
and gallery split, as often as that identity was drawn. Galleries stay as they are. In tasks without queries, images or
groups of them take the place of identities: the clusters of ``Units``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.units import Evaluation, Units

Values = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = TypeVar("Scores", bound=Evaluation)
RESAMPLES = 2000
LEVEL = 0.95
PART = 1 << 21
"""Elements of a temporary."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval (percentiles of the resamples); ``num_identities`` were resampled."""

    value: float
    low: float
    high: float
    num_identities: int


@dataclass(frozen=True)
class Comparison:
    """Figure of A minus that of B on the same queries, its interval, and P(A beats B).

    The probability is the share of resamples of the identities in which A is the better, equal ones counting half: it
    speaks of other identities like these, not of other training seeds.
    """

    difference: float
    low: float
    high: float
    probability: float
    num_identities: int


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure, its value in each resample [R] of the ``num_identities`` identities."""

    value: float
    samples: Values
    num_identities: int


def estimate(
    scores: Evaluation, metric: str = "map", *, part: str | None = None, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """One of the metrics, of all data or of one part, with the interval that holds ``level`` of the resamples."""
    found = resampled(scores, metric, part=part, seed=seed)
    low, high = interval(found.samples, level)
    return Estimate(found.value, low, high, found.num_identities)


def compare_paired(
    a: Scores,
    b: Scores,
    metric: str = "map",
    *,
    part: str | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """A against B on the same questions; both see the same resamples of identities.

    Raises InputError if the two did not answer the same questions: queries of gallery splits and galleries, or images.
    """
    a.check_same(b)
    found_a, found_b = (resampled(scores, metric, part=part, seed=seed) for scores in (a, b))
    return compare_samples(found_a, found_b, level=level)


def resampled(scores: Evaluation, metric: str = "map", *, part: str | None = None, seed: int = 0) -> Resampled:
    """A figure and its value in each resample of the identities; equal seeds draw equal resamples of the same
    identities.
    """
    return _resampled(scores.units(metric, part), seed)


def compare_samples(a: Resampled, b: Resampled, *, level: float = LEVEL) -> Comparison:
    """A against B, whose resamples belong together one by one."""
    gaps = a.samples - b.samples
    wins = float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    return Comparison(a.value - b.value, *interval(gaps, level), wins, a.num_identities)


def mean_estimate(values: Values, cluster: Ints, *, seed: int = 0) -> Estimate:
    """Plain mean of the ``values`` [M] that are not NaN, with its 95 % interval by resampling ``cluster`` [M]."""
    kept = ~np.isnan(values)
    if not kept.any():
        raise InputError("no query with a match is left to average over")
    found = _resampled(Units.together(values[kept], cluster[kept]), seed)
    return Estimate(found.value, *interval(found.samples), found.num_identities)


def _resampled(units: Units, seed: int) -> Resampled:
    """The figure of the clusters as they are, and of each resample [R].

    Sums by cluster and cell make the figure of any resample a product.
    """
    cell = np.unique(units.cell, return_inverse=True)[1]
    clusters, cluster = np.unique(units.cluster, return_inverse=True)
    num_cells = int(cell.max(initial=0)) + 1

    def sums(weights: Values) -> Values:
        found = np.bincount(cluster * num_cells + cell, weights=weights, minlength=len(clusters) * num_cells)
        return found.astype(np.float64).reshape(len(clusters), num_cells)

    total, count = sums(units.values), sums(np.ones(len(cell)))
    value = float((total.sum(axis=0) / count.sum(axis=0)).mean())
    samples = []
    for times in _resamples(len(clusters), seed):
        counts = times @ count
        present = counts > 0
        means = np.divide(times @ total, counts, out=np.zeros_like(counts), where=present)
        samples.append(means.sum(axis=1) / present.sum(axis=1))
    return Resampled(value, np.concatenate(samples), len(clusters))


def _resamples(num_identities: int, seed: int) -> Iterator[Values]:
    """How often each identity was drawn [R, identities], RESAMPLES rows in all, a bounded number at a time."""
    random = np.random.default_rng(seed)
    step = max(1, PART // num_identities)
    for start in range(0, RESAMPLES, step):
        num = min(step, RESAMPLES - start)
        drawn = (
            random.integers(0, num_identities, size=(num, num_identities)) + num_identities * np.arange(num)[:, None]
        )
        counts = np.bincount(drawn.ravel(), minlength=num * num_identities)
        yield counts.reshape(num, num_identities).astype(np.float64)


def interval(samples: Values, level: float = LEVEL) -> tuple[float, float]:
    """The percentiles of ``samples`` [R] between which ``level`` of them lie."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
