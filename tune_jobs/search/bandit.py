"""Which strategy the next trial gets."""

from collections.abc import Sequence
from math import sqrt
from statistics import median

from optuna.distributions import CategoricalDistribution

from search_spaces.recording import Source
from search_spaces.spaces import STRATEGY
from tune_jobs.search.expected_improvement import expected_improvement, expected_maximum
from tune_jobs.search.trial_views import Tally

TRIED_AT_LEAST = 2
"""Trials of every strategy, its default among them, before any is preferred."""
SD_AT_FIRST, LEAST_SD = 0.05, 1e-3
"""The spread of scores within a strategy: a guess while little is known, and the least that is believed."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution by its median absolute deviation."""


def fewest(strategies: Sequence[str], tally: Tally) -> str:
    """The strategy that has been tried least, the first of equals."""
    return min(strategies, key=lambda name: tally.tried[name])


def most_promising(strategies: Sequence[str], tally: Tally) -> str:
    """The strategy whose next trial is expected to improve most on the best validation mAP so far.

    A strategy's scores are taken for normal, with a spread that all strategies share. Its mean follows from its best
    score, as that of the largest of so many: what early stopping has done to the others does not matter, for a
    strategy's best trial is never stopped by another strategy's. Trials that run or failed count as tried, so that
    workers do not all choose the same one. Every strategy gets ``TRIED_AT_LEAST`` trials before.
    """
    tried, scores = tally.tried, tally.scores
    known = [name for name in strategies if name in scores]
    least = fewest(strategies, tally)
    if tried[least] < TRIED_AT_LEAST or not known:
        return least
    sd = _spread([scores[name] for name in known])
    best = max(max(scores[name]) for name in known)

    def worth(name: str) -> float:
        count = tried[name]
        mean = max(scores[name]) - sd * expected_maximum(count)
        return expected_improvement(mean, sd * sqrt(1 + 1 / count), best)

    return max(known, key=worth)


def drawn(strategies: Sequence[str], suggestion: Source) -> str:
    """The sampler's own choice: it draws strategies the more often, the more of the best trials are theirs."""
    return str(suggestion(STRATEGY, CategoricalDistribution(tuple(strategies))))


def _spread(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups, by the median distance from each group's median."""
    centred = [(group, median(group)) for group in groups if len(group) > 1]
    distances = [abs(score - centre) for group, centre in centred for score in group]
    return max(LEAST_SD, MAD_TO_SD * median(distances)) if len(distances) > TRIED_AT_LEAST else SD_AT_FIRST
