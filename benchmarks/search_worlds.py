"""Worlds in which searches are compared in seconds: what every configuration of the real spaces would reach, and when.

A world answers for an asked trial with its learning curve, noisy as a search sees it and true as a referee does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.inventory import inventory
from search_spaces.joint import JointSpace
from search_spaces.suggest import Primitive

Floats = NDArray[np.float64]
START = 0.2
"""Where learning curves begin."""


@dataclass(frozen=True)
class Curve:
    """Scores after units 1, 2, ...: ``seen`` and ``true`` [budget], and what a unit costs in GPU-hours."""

    seen: Floats
    true: Floats
    cost: float


class World(Protocol):
    """What trials reach."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """What a sweep searches in it."""
        ...

    @property
    def budget(self) -> int:
        """Units of a trial that is not stopped."""
        ...

    @property
    def best(self) -> float:
        """The highest true score that there is."""
        ...

    @property
    def dearest(self) -> float:
        """GPU-hours a unit of the dearest strategy."""
        ...

    def curve(self, strategy: str, params: Mapping[str, Primitive], number: int) -> Curve:
        """The curve of trial ``number``; ``params`` by the path below the strategy."""
        ...


def place(value: Primitive, distribution: BaseDistribution) -> float:
    """Where in its range a value lies, 0 to 1, on the range's own scale."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        return log(value / low) / log(high / low)
    return (value - low) / (high - low)


@dataclass(frozen=True)
class Kind:
    """What is known of a strategy before its hyperparameters are drawn."""

    top: float
    """True score of its best configuration after very many units."""
    pace: float
    """Units in which that one covers 63 % of its way."""
    cost: float
    """GPU-hours a unit."""
    slower: float = 1.0
    """Log of the factor by which the lowest rate is slower than the highest."""
    low_rates_win: bool = False
    """Whether the best rate is a low one, so that what starts slowly ends high."""


@dataclass(frozen=True)
class Law:
    """How one strategy's score depends on its hyperparameters."""

    kind: Kind
    optimum: dict[str, float]
    weight: dict[str, float]
    """Loss at the distance 1 from the optimum, by path; it grows with the square."""
    choice: dict[str, tuple[float, ...]]
    """Loss of each choice, by path."""

    def true(self, at: Mapping[str, float], budget: int) -> Floats:
        """The curve of the configuration at the places ``at``."""
        loss = sum(self.weight[name] * (at[name] - self.optimum[name]) ** 2 for name in self.weight if name in at)
        loss += sum(
            self.choice[name][round(at[name] * (len(self.choice[name]) - 1))] for name in self.choice if name in at
        )
        end = max(START / 2, self.kind.top - loss)
        pace = self.kind.pace * exp(self.kind.slower * (self.optimum["optim/lr"] - at["optim/lr"]))
        return START + (end - START) * (1 - np.exp(-np.arange(1, budget + 1) / pace))

    def best(self, budget: int) -> float:
        """The highest score that any rate reaches with everything else at its best."""
        rest = {name: self.optimum[name] for name in self.weight}
        return max(float(self.true(rest | {"optim/lr": x}, budget).max()) for x in np.linspace(0, 1, 201))


def draw_law(strategy: str, kind: Kind, rng: np.random.Generator) -> Law:
    """A law for the strategy's real space: the rate matters most, three or four others do, the rest hardly."""
    space = {name.partition("/")[2]: part for name, part in inventory(strategy).items()}
    defaults = {n.partition("/")[2]: v for n, v in JointSpace((strategy,)).default(strategy).params.items()}
    numbers = [name for name, part in space.items() if not isinstance(part, CategoricalDistribution)]
    important = set(rng.permutation([name for name in numbers if name != "optim/lr"])[:4])
    optimum, weight = {}, {}
    for name in numbers:
        default = place(defaults[name], space[name]) if name in defaults else 0.5
        optimum[name] = float(np.clip(default + rng.normal(0, 0.25), 0.05, 0.95))
        weight[name] = float(rng.uniform(0.1, 0.3)) if name in important else 0.005
    optimum["optim/lr"] = float(rng.uniform(0.1, 0.3) if kind.low_rates_win else rng.uniform(0.3, 0.8))
    weight["optim/lr"] = 1.0
    choice = {}
    for name in space.keys() - set(numbers):
        part = space[name]
        assert isinstance(part, CategoricalDistribution)
        losses = rng.exponential(0.01, len(part.choices))
        choice[name] = tuple(losses - losses.min())
    return Law(kind, optimum, weight, choice)


@dataclass(frozen=True)
class Simulated:
    """Drawn laws, with noise between runs and between the validations of one run."""

    laws: dict[str, Law]
    budget: int
    run_sd: float
    step_sd: float
    seed: int

    @property
    def strategies(self) -> tuple[str, ...]:
        """What a sweep searches in it."""
        return tuple(self.laws)

    @property
    def best(self) -> float:
        """The highest true score that there is."""
        return max(law.best(self.budget) for law in self.laws.values())

    @property
    def dearest(self) -> float:
        """GPU-hours a unit of the dearest strategy."""
        return max(law.kind.cost for law in self.laws.values())

    def curve(self, strategy: str, params: Mapping[str, Primitive], number: int) -> Curve:
        """The curve of trial ``number``; ``params`` by the path below the strategy."""
        space = inventory(strategy)
        at = {path: place(value, space[f"{strategy}/{path}"]) for path, value in params.items()}
        law = self.laws[strategy]
        true = law.true(at, self.budget)
        rng = np.random.default_rng((self.seed, number))
        progress = (true - START) / max(1e-9, float(abs(true[-1] - START)))
        noise = rng.normal(0, self.run_sd) * np.abs(progress) + rng.normal(0, self.step_sd, self.budget)
        return Curve(true + noise, true, law.kind.cost)


@dataclass(frozen=True)
class Scenario:
    """A family of worlds."""

    what: str
    kinds: dict[str, Kind]
    run_sd: float = 0.004
    step_sd: float = 0.006
    budget: int = 27

    def world(self, seed: int) -> Simulated:
        """One of the family."""
        rng = np.random.default_rng((17, seed))
        laws = {strategy: draw_law(strategy, kind, rng) for strategy, kind in self.kinds.items()}
        return Simulated(laws, self.budget, self.run_sd, self.step_sd, seed)


SLOW = {
    "linear_probe": Kind(top=0.62, pace=0.7, cost=0.2),
    "adapters": Kind(top=0.69, pace=3.0, cost=0.8),
    "lora": Kind(top=0.70, pace=4.0, cost=0.9),
    "full": Kind(top=0.76, pace=9.0, cost=1.0),
}
FAST = {
    "linear_probe": Kind(top=0.76, pace=0.7, cost=0.2),
    "adapters": Kind(top=0.70, pace=3.0, cost=0.8),
    "lora": Kind(top=0.69, pace=4.0, cost=0.9),
    "full": Kind(top=0.68, pace=9.0, cost=1.0),
}
ALIKE = {name: Kind(top=top, pace=3.0, cost=1.0) for name, top in zip(SLOW, (0.70, 0.71, 0.72, 0.73), strict=True)}
CROSSING = {
    name: Kind(top=top, pace=2.0, cost=1.0, slower=2.5, low_rates_win=True)
    for name, top in zip(SLOW, (0.66, 0.70, 0.71, 0.74), strict=True)
}
SCENARIOS = {
    "slow": Scenario("the best strategy starts slowest", SLOW),
    "fast": Scenario("the best strategy starts fastest and is cheap", FAST),
    "alike": Scenario("four strategies of equal pace and nearly equal tops", ALIKE),
    "crossing": Scenario("low rates start slowly and end highest, in every strategy", CROSSING),
    "noisy": Scenario("as slow, with a noise of 0.03", SLOW, run_sd=0.03, step_sd=0.03),
    "alone": Scenario("one strategy", {"full": Kind(top=0.75, pace=4.0, cost=1.0)}),
}
