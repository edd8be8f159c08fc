"""The same settings trained on several seeds: spread between seeds, intervals over identities, comparison over both.

Models are compared in pairs: the same seeds gave them their random numbers, the same resamples draw their identities. A
resample of a comparison draws identities and seeds, each as many as there are with replacement, and takes the
mean over the drawn seeds. With few seeds that understates what another seed may do, by a factor of sqrt((n - 1) / n) in
the deviation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import (
    LEVEL,
    Comparison,
    Resampled,
    compare_samples,
    interval,
    resampled,
)
from handclip_core.evaluation.units import Evaluation

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeedSamples:
    """One model's figure by seed [S], and by seed and resample of the ``num_identities`` identities [S, R]."""

    values: Values
    samples: Values
    num_identities: int


@dataclass(frozen=True)
class SeedEstimate:
    """``mean`` over seeds, ``sd`` between them (n - 1; None of a single one), ``low`` to ``high`` over identities."""

    mean: float
    sd: float | None
    low: float
    high: float
    num_seeds: int
    num_identities: int


def sample_seeds(runs: Sequence[Evaluation], metric: str = "map", *, seed: int = 0) -> SeedSamples:
    """The figures of one model's ``runs``, one a seed; ``seed`` draws the identities, the same for all models.

    Raises InputError if there is no run, or they were not scored on the same queries.
    """
    if not runs:
        raise InputError("a model without a single run cannot be evaluated")
    for other in runs[1:]:
        runs[0].check_same(other)
    found = [resampled(scores, metric, seed=seed) for scores in runs]
    samples = np.stack([one.samples for one in found])
    return SeedSamples(np.array([one.value for one in found]), samples, found[0].num_identities)


def estimate_seeds(model: SeedSamples, *, level: float = LEVEL) -> SeedEstimate:
    """Mean and spread over seeds, and the interval of the mean over identities."""
    low, high = interval(model.samples.mean(axis=0), level)
    num = len(model.values)
    sd = float(model.values.std(ddof=1)) if num > 1 else None
    return SeedEstimate(float(model.values.mean()), sd, low, high, num, model.num_identities)


def compare_seeds(a: SeedSamples, b: SeedSamples, *, seed: int = 0, level: float = LEVEL) -> Comparison:
    """A against B over identities and seeds; run i of both has one seed. Raises InputError if their numbers
    differ.
    """
    if a.samples.shape != b.samples.shape or a.num_identities != b.num_identities:
        raise InputError("the two models were run on different seeds or identities: compare runs of the same finals")
    num_seeds, num_resamples = a.samples.shape
    drawn = np.random.default_rng([seed, num_seeds]).integers(0, num_seeds, size=(num_seeds, num_resamples))
    return compare_samples(*(_over_drawn_seeds(model, drawn) for model in (a, b)), level=level)


def beats(models: Sequence[SeedSamples], *, seed: int = 0) -> Values:
    """P(A beats B) [M, M] with A by row and B by column; half on the diagonal."""
    table = np.full((len(models), len(models)), 0.5)
    for row, one in enumerate(models):
        for column in range(row):
            table[row, column] = compare_seeds(one, models[column], seed=seed).probability
            table[column, row] = 1 - table[row, column]
    return table


def _over_drawn_seeds(model: SeedSamples, drawn: NDArray[np.int64]) -> Resampled:
    samples = np.take_along_axis(model.samples, drawn, axis=0).mean(axis=0)
    return Resampled(float(model.values.mean()), samples, model.num_identities)
