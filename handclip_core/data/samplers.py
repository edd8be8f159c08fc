"""Samplers: which pictures make up training step s. Stateless, so that a run resumes at any step by its number alone.

A sampler is an endless stream of permutations cut into batches of one size; batch s depends on (seed, s) only.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Shuffled:
    """Every picture once an epoch, in random order."""

    batch_size: int

    def step(self, step: int, *, labels: Positions, seed: int) -> Positions:
        """Positions [B] into ``labels`` for step ``step``."""
        return _stream(len(labels), self.batch_size, step, seed)


@dataclass(frozen=True)
class PK:
    """P identities with K pictures each (Hermans 2017, arXiv 1703.07737); people with fewer than K repeat pictures."""

    p: int
    k: int

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.p * self.k

    def step(self, step: int, *, labels: Positions, seed: int) -> Positions:
        """Positions [P * K] into ``labels`` for step ``step``."""
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        rng = np.random.default_rng([seed, 1, step])
        chosen = _stream(len(groups), self.p, step, seed)
        return np.concatenate([_draw(groups[i], self.k, rng) for i in chosen])


Sampler = Shuffled | PK


def _draw(members: Positions, k: int, rng: np.random.Generator) -> Positions:
    drawn: Positions = rng.choice(members, size=k, replace=len(members) < k)
    return drawn


def _stream(n: int, batch_size: int, step: int, seed: int) -> Positions:
    """Items [step * batch_size, (step + 1) * batch_size) of the endless row of permutations of range(n)."""
    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // n, (last - 1) // n + 1)
    stream = np.concatenate([_permutation(n, seed, epoch) for epoch in epochs])
    offset = epochs[0] * n
    return stream[first - offset : last - offset]


@lru_cache(maxsize=64)
def _permutation(n: int, seed: int, epoch: int) -> Positions:
    return np.random.default_rng([seed, 0, epoch]).permutation(n).astype(np.int64)
