"""Which strategy the next trial gets."""

from collections import Counter
from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from search_spaces.recorder import Source
from search_spaces.spaces import STRATEGY
from tune_jobs.history import strategy_of


def fewest(strategies: Sequence[str], trials: Sequence[FrozenTrial]) -> str:
    """The strategy that has been tried least, the first of equals."""
    tried = Counter(strategy_of(trial) for trial in trials)
    return min(strategies, key=lambda name: tried[name])


def promising(strategies: Sequence[str], suggestion: Source) -> str:
    """The sampler's own choice: it draws strategies the more often, the more of the best trials are theirs."""
    return str(suggestion(STRATEGY, CategoricalDistribution(tuple(strategies))))
