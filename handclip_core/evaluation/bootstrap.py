"""Confidence by resampling people: intervals of one model, and paired comparison of two.

Comparisons share identities, so neither queries nor pairs are independent; identities are (ISO/IEC 19795-1:2021). A
resample draws as many identities as there are, with replacement, and counts all queries of an identity, in every aspect
and gallery split, as often as that identity was drawn. Galleries stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import ProtocolScores, QueryScores

Values = NDArray[np.float64]
Ints = NDArray[np.int64]
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
    scores: ProtocolScores, metric: str = "map", *, aspect: str | None = None, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """One of METRICS, over all aspects or of one, with the interval that holds ``level`` of the resamples."""
    found = resampled(scores, metric, aspect=aspect, seed=seed)
    low, high = interval(found.samples, level)
    return Estimate(found.value, low, high, found.num_identities)


def compare_paired(
    a: ProtocolScores,
    b: ProtocolScores,
    metric: str = "map",
    *,
    aspect: str | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """A against B on the same gallery splits; both see the same resamples of identities.

    Raises InputError if the two were not scored on the same queries of the same gallery splits and galleries.
    """
    check_same_queries(a, b)
    found_a, found_b = (resampled(scores, metric, aspect=aspect, seed=seed) for scores in (a, b))
    return compare_samples(found_a, found_b, level=level)


def resampled(scores: ProtocolScores, metric: str = "map", *, aspect: str | None = None, seed: int = 0) -> Resampled:
    """A figure and its value in each resample of the identities; equal seeds draw equal resamples of the same
    identities.
    """
    cells = _Cells(scores.queries, _aspect_mask(scores, aspect))
    value, samples = cells.means(scores.queries.metric(metric), seed)
    return Resampled(value, samples, cells.num_identities)


def compare_samples(a: Resampled, b: Resampled, *, level: float = LEVEL) -> Comparison:
    """A against B, whose resamples belong together one by one."""
    gaps = a.samples - b.samples
    wins = float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    return Comparison(a.value - b.value, *interval(gaps, level), wins, a.num_identities)


def check_same_queries(a: ProtocolScores, b: ProtocolScores) -> None:
    """Raise InputError if two models were not scored on the same queries, draws and kind of gallery."""
    if a.gallery is not b.gallery:
        raise InputError(f"one model was scored on gallery '{a.gallery}', the other on '{b.gallery}'")
    same = a.aspects == b.aspects and all(
        np.array_equal(getattr(a.queries, name), getattr(b.queries, name)) for name in ("draw", "aspect", "row")
    )
    if not same:
        raise InputError("the two models were scored on different queries or draws: prepare the data once for both")
    if not np.array_equal(a.queries.first_rank == 0, b.queries.first_rank == 0):
        raise InputError("a query has a match for one model and none for the other: their galleries differ")


def weighted_mean(queries: QueryScores, metric: str, mask: NDArray[np.bool_], *, seed: int = 0) -> Estimate:
    """Mean of one metric over the queries [M] where ``mask``, draws and aspects together, with its 95 % interval."""
    values = queries.metric(metric)
    kept = mask & ~np.isnan(values)
    if not kept.any():
        raise InputError("no query with a match is left to average over")
    cells = _Cells(queries, mask, by_cell=False)
    value, samples = cells.means(values, seed)
    return Estimate(value, *interval(samples), cells.num_identities)


class _Cells:
    """Sums by identity and cell (a gallery split and an aspect), from which the figure of any resample is a product."""

    def __init__(self, queries: QueryScores, mask: NDArray[np.bool_], *, by_cell: bool = True) -> None:
        self._kept = mask & (queries.first_rank > 0)
        cell = queries.draw * (int(queries.aspect.max()) + 1) + queries.aspect
        self._cell = np.unique(cell[self._kept], return_inverse=True)[1]
        if not by_cell:
            self._cell = np.zeros_like(self._cell)
        identities, self._identity = np.unique(queries.identity[self._kept], return_inverse=True)
        self.num_identities = len(identities)
        self._shape = (len(identities), int(self._cell.max(initial=0)) + 1)
        self._count = self._sum(np.ones(len(self._cell)))

    def means(self, values: Values, seed: int) -> tuple[float, Values]:
        """Mean over cells of the mean over queries: of the identities as they are, and of each resample [R]."""
        total = self._sum(values[self._kept])
        value = float((total.sum(axis=0) / self._count.sum(axis=0)).mean())
        samples = []
        for times in _resamples(self.num_identities, seed):
            counts = times @ self._count
            present = counts > 0
            means = np.divide(times @ total, counts, out=np.zeros_like(counts), where=present)
            samples.append(means.sum(axis=1) / present.sum(axis=1))
        return value, np.concatenate(samples)

    def _sum(self, values: Values) -> Values:
        identities, cells = self._shape
        sums = np.bincount(self._identity * cells + self._cell, weights=values, minlength=identities * cells)
        return sums.astype(np.float64).reshape(identities, cells)


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


def _aspect_mask(scores: ProtocolScores, aspect: str | None) -> NDArray[np.bool_]:
    if aspect is None:
        return np.ones(len(scores.queries.row), dtype=np.bool_)
    if aspect not in scores.aspects:
        raise InputError(f"aspect '{aspect}' was not scored; there are {', '.join(scores.aspects)}")
    return np.asarray(scores.queries.aspect == scores.aspects.index(aspect))


def interval(samples: Values, level: float = LEVEL) -> tuple[float, float]:
    """The percentiles of ``samples`` [R] between which ``level`` of them lie."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
