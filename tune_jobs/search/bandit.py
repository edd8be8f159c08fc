"""Which strategy the next trial gets, and which of several backbones: which arm."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import median

from optuna.distributions import CategoricalDistribution

from search_spaces.recording import Source
from search_spaces.spaces import STRATEGY
from tune_jobs.search.expected_improvement import expected_improvement, expected_maximum
from tune_jobs.search.trial_views import Tally

TRIED_AT_LEAST = 2
"""Trials of every arm, its default among them, before any is preferred."""
SD_AT_FIRST, LEAST_SD = 0.05, 1e-3
"""The spread of scores within an arm: a guess while little is known, and the least that is believed."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution by its median absolute deviation."""


def fewest(arms: Sequence[str], tally: Tally) -> str:
    """The arm that has been tried least, the first of equals."""
    return min(arms, key=lambda name: tally.tried[name])


def most_promising(
    arms: Sequence[str], tally: Tally, costs: Mapping[str, float] | None = None, *, cooling: float = 0.0
) -> str:
    """The arm whose next trial is expected to improve most on the best validation mAP so far.

    An arm's scores are taken for normal, with a spread that all arms share. Its mean follows from its best score, as
    that of the largest of so many: what early stopping has done to the others does not matter, for an arm's best trial
    is never stopped by another arm's. Trials that run or failed count as tried, so that workers do not all choose the
    same one. Every arm gets ``TRIED_AT_LEAST`` trials before.

    With the ``costs`` of a trial of each, the improvement is divided by the cost to the power ``cooling``: 1 asks what
    a second brings, 0 what a trial brings (Lee et al. 2020, arXiv 2003.10870: from 1 at first to 0 at the end).
    """
    tried, scores = tally.tried, tally.scores
    known = [name for name in arms if name in scores]
    least = fewest(arms, tally)
    if tried[least] < TRIED_AT_LEAST or not known:
        return least
    sd = _spread([scores[name] for name in known])
    best = max(max(scores[name]) for name in known)

    def worth(name: str) -> float:
        count = tried[name]
        mean = max(scores[name]) - sd * expected_maximum(count)
        # The mean is itself known from so many trials only.
        found = expected_improvement(mean, sd * sqrt(1 + 1 / count), best)
        return found / costs[name] ** cooling if costs else found

    return max(known, key=worth)


def drawn(arms: Sequence[str], suggestion: Source) -> str:
    """The sampler's own choice: it draws arms the more often, the more of the best trials are theirs."""
    return str(suggestion(STRATEGY, CategoricalDistribution(tuple(arms))))


def _spread(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups, by the median distance from each group's median."""
    centred = [(group, median(group)) for group in groups if len(group) > 1]
    distances = [abs(score - centre) for group, centre in centred for score in group]
    return max(LEAST_SD, MAD_TO_SD * median(distances)) if len(distances) > TRIED_AT_LEAST else SD_AT_FIRST
