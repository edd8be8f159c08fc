"""Ranges narrowed by the user, and values of the user's brought into the form that Optuna stores.

A key is a field's path, ``optim/lr``, which means every strategy that searches it, or the path under one strategy,
``full/optim/lr``, or under a strategy on one of several backbones, ``full@ViT-B-32/optim/lr``. The longer counts before
the shorter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.arms import strategy_in
from search_spaces.suggest import Primitive, label

MOST_SHOWN = 6
"""Choices that a message lists."""


@dataclass(frozen=True)
class Narrowing:
    """Narrower ranges by key: [low, high] for a number, the choices that stay for anything else."""

    ranges: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def key(self, name: str) -> str | None:
        """The key that narrows the hyperparameter ``name``, if any does."""
        arm, _, path = name.partition("/")
        return next((key for key in (name, f"{strategy_in(arm)}/{path}", path) if key in self.ranges), None)

    def apply(self, name: str, distribution: BaseDistribution) -> BaseDistribution:
        """The distribution of ``name`` as narrowed; raises ValueError if it would not be a part of the old one."""
        key = self.key(name)
        if key is None:
            return distribution
        wanted = tuple(self.ranges[key])
        try:
            return _narrowed(distribution, wanted)
        except ValueError as error:
            raise ValueError(f"{key}: {error}; narrow {name} within {shown(distribution)}") from None


def stored(value: Any, distribution: BaseDistribution) -> Primitive:
    """A value from YAML as Optuna stores it; raises ValueError if the distribution does not hold it."""
    if isinstance(distribution, CategoricalDistribution):
        return _choice(value, distribution)
    number = _number(value)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not distribution.low <= number <= distribution.high:
        raise ValueError(f"{value} lies outside {shown(distribution)}")
    if isinstance(distribution, FloatDistribution):
        return number
    if number != int(number):
        raise ValueError(f"{value!r} is no whole number")
    return int(number)


def nearest(value: Any, distribution: BaseDistribution) -> Primitive:
    """The value itself if the distribution holds it, else the nearer end of a range or the first choice."""
    try:
        return stored(value, distribution)
    except ValueError:
        pass
    if isinstance(distribution, FloatDistribution | IntDistribution) and isinstance(value, int | float):
        return distribution.low if value < distribution.low else distribution.high
    return first_of(distribution)


def first_of(distribution: BaseDistribution) -> Primitive:
    """The lower end of a range, or the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        first: Primitive = distribution.choices[0]
        return first
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


def shown(distribution: BaseDistribution) -> str:
    """What a distribution holds, in words."""
    if isinstance(distribution, CategoricalDistribution):
        words = [_word(choice) for choice in distribution.choices[:MOST_SHOWN]]
        left = len(distribution.choices) - len(words)
        return "one of " + ", ".join(words) + (f" and {left} more" if left else "")
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return f"{distribution.low:g} to {distribution.high:g}"


def _narrowed(distribution: BaseDistribution, wanted: tuple[Any, ...]) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        if not wanted:
            raise ValueError("name at least one choice")
        return CategoricalDistribution([_choice(value, distribution) for value in wanted])
    if len(wanted) != 2:
        raise ValueError("give two numbers, [low, high]")
    low, high = (stored(value, distribution) for value in wanted)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low > high:
        raise ValueError(f"{low:g} is more than {high:g}; give [low, high]")
    if isinstance(distribution, IntDistribution):
        return IntDistribution(int(low), int(high), log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return FloatDistribution(low, high, log=distribution.log)


def _choice(value: Any, distribution: CategoricalDistribution) -> Primitive:
    wanted = label(tuple(value)) if isinstance(value, list | tuple) else value
    for choice in distribution.choices:
        # 1 and True are equal, yet not the same setting.
        if choice == wanted and isinstance(choice, bool) == isinstance(wanted, bool):
            return choice
    raise ValueError(f"{wanted!r} is not {shown(distribution)}")


def _number(value: Any) -> float:
    """A number; YAML 1.1 reads 1e-5 as text."""
    try:
        if not isinstance(value, bool):
            return float(value) if isinstance(value, str) else value + 0
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{value!r} is no number")


def _word(choice: Primitive) -> str:
    return "none" if choice is None else str(choice).lower() if isinstance(choice, bool) else str(choice)
