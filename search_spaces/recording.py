"""Draws from any source of values, noted with the distributions that they came from."""

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.arms import under
from search_spaces.suggest import Primitive

Source = Callable[[str, BaseDistribution], Any]
"""Gives the value of a hyperparameter by its name, out of its distribution."""

Narrow = Callable[[str, BaseDistribution], BaseDistribution]
"""Gives the part of a hyperparameter's distribution that is to be searched."""


class RecordingTrial:
    """Stands in for a trial: ``source`` answers out of what ``narrow`` leaves of each distribution.

    ``params`` and ``distributions`` keep what was given, by name, which begins with ``arm`` in place of the strategy's
    if there is one.
    """

    def __init__(self, source: Source, narrow: Narrow, arm: str = "") -> None:
        self._source = source
        self._narrow = narrow
        self._arm = arm
        self.params: dict[str, Primitive] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The source's number in [low, high]."""
        return float(self._take(name, FloatDistribution(low, high, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """The source's integer in [low, high]."""
        return int(self._take(name, IntDistribution(low, high, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The source's choice."""
        return self._take(name, CategoricalDistribution(tuple(choices)))

    def _take(self, name: str, distribution: BaseDistribution) -> Any:
        name = under(self._arm, name) if self._arm else name
        part = self._narrow(name, distribution)
        value = self._source(name, part)
        self.params[name], self.distributions[name] = value, part
        return value
