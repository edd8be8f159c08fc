"""Samplers: which images make up training step s. Stateless, so that a run resumes at any step by its number alone.

A sampler is an endless stream of permutations cut into batches of one size; batch s depends on (seed, s) only.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """What there is to draw from: the class ``labels`` [n] and ``aspects`` [n] of n images."""

    labels: Positions
    aspects: Positions


@dataclass(frozen=True)
class Shuffled:
    """Every image once an epoch, in random order."""

    batch_size: int

    def step(self, step: int, pool: Pool, *, seed: int) -> Positions:
        """Positions [B] in the pool for step ``step``."""
        return _stream(len(pool.labels), self.batch_size, step, seed)


@dataclass(frozen=True)
class PK:
    """P classes with K images each (Hermans 2017, arXiv 1703.07737); classes with fewer than K repeat images.

    The classes of a batch differ, if there are P.
    """

    p: int
    k: int

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.p * self.k

    def step(self, step: int, pool: Pool, *, seed: int) -> Positions:
        """Positions [P * K] in the pool for step ``step``."""
        groups = _groups(pool.labels)
        rng = np.random.default_rng([seed, 1, step])
        return np.concatenate([_draw(groups[i], self.k, rng) for i in _classes(len(groups), self.p, step, seed)])


@dataclass(frozen=True)
class CrossAspect:
    """P classes with K images each that show as many different aspects of the class as there are.

    The classes of a batch differ, if there are P.
    """

    p: int
    k: int

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.p * self.k

    def step(self, step: int, pool: Pool, *, seed: int) -> Positions:
        """Positions [P * K] in the pool for step ``step``."""
        groups = _groups(pool.labels)
        rng = np.random.default_rng([seed, 1, step])
        chosen = _classes(len(groups), self.p, step, seed)
        return np.concatenate([_draw_across(groups[i], pool.aspects, self.k, rng) for i in chosen])


@dataclass(frozen=True, eq=False)
class Confusable:
    """A class and the P - 1 classes most like it by ``likeness`` [C, C], with K images each.

    Every class is the first of a batch equally often; those that are like many others are shown more often than others.
    """

    p: int
    k: int
    likeness: NDArray[np.float32]

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.p * self.k

    def step(self, step: int, pool: Pool, *, seed: int) -> Positions:
        """Positions [P * K] in the pool for step ``step``."""
        groups, present = _groups(pool.labels), np.unique(pool.labels)
        first = int(_stream(len(present), 1, step, seed)[0])
        others = np.argsort(-self.likeness[present[first], present], kind="stable")
        chosen = np.resize(np.concatenate([[first], others[others != first]]), self.p)
        rng = np.random.default_rng([seed, 1, step])
        return np.concatenate([_draw(groups[i], self.k, rng) for i in chosen])


@dataclass(frozen=True)
class Balanced:
    """Every aspect equally often, and within an aspect every class: one random image of it at a time."""

    batch_size: int

    def step(self, step: int, pool: Pool, *, seed: int) -> Positions:
        """Positions [B] in the pool for step ``step``."""
        aspects = np.unique(pool.aspects)
        members = [np.flatnonzero(pool.aspects == aspect) for aspect in aspects]
        classes = [[part[at] for at in _groups(pool.labels[part])] for part in members]
        rng = np.random.default_rng([seed, 1, step])
        first = step * self.batch_size
        drawn = []
        for place in range(first, first + self.batch_size):
            turn, within = divmod(place, len(aspects))
            which = _permutation(len(aspects), seed, turn)[within]
            epoch, at = divmod(turn, len(classes[which]))
            drawn.append(rng.choice(classes[which][_permutation(len(classes[which]), seed, epoch)[at]]))
        return np.array(drawn, np.int64)


Sampler = Shuffled | PK | CrossAspect | Confusable | Balanced


def _groups(labels: Positions) -> list[Positions]:
    """Positions of every class, classes ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _draw(members: Positions, k: int, rng: np.random.Generator) -> Positions:
    drawn: Positions = rng.choice(members, size=k, replace=len(members) < k)
    return drawn


def _draw_across(members: Positions, aspects: Positions, k: int, rng: np.random.Generator) -> Positions:
    """K of ``members``, the aspects among them in turn; an aspect's images repeat only when it has run out."""
    parts = [members[at] for at in _groups(aspects[members])]
    turns = [parts[i] for i in rng.permutation(len(parts))]
    wanted = [k // len(turns) + (i < k % len(turns)) for i in range(len(turns))]
    return np.concatenate([_draw(part, num, rng) for part, num in zip(turns, wanted, strict=True)])


def _stream(n: int, batch_size: int, step: int, seed: int) -> Positions:
    """Items [step * batch_size, (step + 1) * batch_size) of the endless row of permutations of range(n)."""
    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // n, (last - 1) // n + 1)
    stream = np.concatenate([_permutation(n, seed, epoch) for epoch in epochs])
    offset = epochs[0] * n
    return stream[first - offset : last - offset]


def _classes(n: int, p: int, step: int, seed: int) -> Positions:
    """The classes [p] of step ``step``: as ``_stream``, but none more often in a batch than p of n classes ask for."""
    if n < p:
        whole = (p - 1) // n
        return np.concatenate([np.tile(np.arange(n), whole), _classes(n, p - whole * n, step, seed)])
    stretch, at = divmod(step, n // gcd(n, p))
    return _stretch(n, p, seed, stretch)[at * p : (at + 1) * p]


@lru_cache(maxsize=8)
def _stretch(n: int, p: int, seed: int, stretch: int) -> Positions:
    """As many permutations of range(n) as fill whole batches of p, each of which differs from what it completes."""
    num = p // gcd(n, p)
    drawn = np.empty(0, np.int64)
    for epoch in range(stretch * num, (stretch + 1) * num):
        items = _permutation(n, seed, epoch)
        held = drawn[len(drawn) // p * p :]
        if len(held):
            first = np.flatnonzero(~np.isin(items, held))[: p - len(held)]
            items = np.concatenate([items[first], np.delete(items, first)])
        drawn = np.concatenate([drawn, items])
    return drawn


@lru_cache(maxsize=256)
def _permutation(n: int, seed: int, epoch: int) -> Positions:
    return np.random.default_rng([seed, 0, epoch]).permutation(n).astype(np.int64)
