"""What a sweep can see: the noise of one configuration over seeds, and what it means for trials and seeds.

The baseline runs on ``SEEDS`` seeds before the search. From their standard deviation s, with f = seeds - 1 degrees of
freedom, follows the smallest difference between two configurations of n seeds each that a two-sided t-test at level
``LEVEL`` finds with probability ``POWER``:

    d = (t[1 - LEVEL / 2; f] + t[POWER; f]) * s * sqrt(2 / n)

for unrelated seeds. Pairs of the same seeds see less than d, sqrt(1 - r) of it, where their scores have the correlation
r > 0; runs of one configuration cannot tell r, so d errs on the careful side.
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy import special  # type: ignore[import-untyped]  # scipy.stats takes a second more to import

from tune_jobs.search.expected_improvement import expected_maximum

SEEDS = 5
LEVEL, POWER = 0.05, 0.8
SD_CONFIDENCE = 0.9
FINAL_SEEDS = (1, 3, 5, 10)
"""Numbers of seeds for which the smallest difference is told."""
SPREADS = (0.3, 1.0, 3.0)
"""Assumed spreads of the true scores of configurations, the real one being unknown, in units of sd."""
MOST_TRIALS = 4096


@dataclass(frozen=True)
class PowerAnalysis:
    """Validation mAP of one configuration over seeds; at least two."""

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.scores)

    @property
    def sd(self) -> float:
        """Standard deviation of one run."""
        return stdev(self.scores)

    @property
    def sd_interval(self) -> tuple[float, float]:
        """The interval of the true standard deviation with confidence ``SD_CONFIDENCE``, for normal scores."""
        free, tail = len(self.scores) - 1, (1 - SD_CONFIDENCE) / 2
        low, high = (self.sd * sqrt(free / special.chdtri(free, 1 - q)) for q in (1 - tail, tail))
        return low, high

    def smallest_difference(self, seeds: int) -> float:
        """The difference between two configurations of ``seeds`` runs each that a test would find: d above."""
        free = len(self.scores) - 1
        quantiles = special.stdtrit(free, 1 - LEVEL / 2) + special.stdtrit(free, POWER)
        return float(quantiles * self.sd * sqrt(2 / seeds))

    def flattery(self, trials: int, *, replicas: int) -> float:
        """By how much the best of ``trials`` equally good configurations would be overrated."""
        return expected_maximum(trials) * self.sd / sqrt(replicas)


@dataclass(frozen=True)
class Split:
    """A number of runs shared out as ``trials`` configurations with ``replicas`` seeds each."""

    trials: int
    replicas: int
    gain: float
    """How far above the mean configuration the chosen one is expected to be, in truth."""


def expected_gain(trials: int, replicas: int, *, sd: float, spread: float) -> float:
    """How far above the mean the best-looking of ``trials`` configurations is in truth, on average.

    True scores are normal with standard deviation ``spread``, and each is seen as the mean of ``replicas`` runs with
    noise ``sd``: gain = E[max] * spread^2 / sqrt(spread^2 + sd^2 / replicas).
    """
    seen = sqrt(spread**2 + sd**2 / replicas)
    return expected_maximum(trials) * spread**2 / seen if seen > 0 else 0.0


def best_split(runs: int, *, sd: float, spread: float) -> Split:
    """The number of seeds that makes most of ``runs`` runs of equal cost; the fewest seeds of equals."""
    splits = [
        Split(runs // replicas, replicas, expected_gain(runs // replicas, replicas, sd=sd, spread=spread))
        for replicas in range(1, runs + 1)
    ]
    return max(splits, key=lambda split: split.gain)


def trials_worth_running(found: PowerAnalysis, *, spread: float, seeds: int) -> int | None:
    """The fewest trials whose winner is expected to stand above the mean by a difference that ``seeds`` runs can see.

    With fewer, a search cannot be told from picking any configuration. None if even ``MOST_TRIALS`` are too few.
    """
    visible = found.smallest_difference(seeds)

    def gain(trials: int) -> float:
        return expected_gain(trials, 1, sd=found.sd, spread=spread)

    if gain(MOST_TRIALS) < visible:
        return None
    return bisect_left(range(1, MOST_TRIALS + 1), visible, key=gain) + 1
