"""Random streams that depend on what they are for, never on process, thread or order."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def stream(*parts: str | int) -> np.random.Generator:
    """A generator that is a pure function of ``parts`` (names and numbers that say what it draws)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


@dataclass(frozen=True)
class Genes:
    """Values of one hand: a part that both hands of a person share plus a deviation of its own.

    Both hands ask for the same values in the same order, so ``shared`` gives both the same part.
    """

    shared: np.random.Generator
    own: np.random.Generator
    likeness: float = 0.8
    """Share of the variance that both hands have in common."""

    def normal(self, sd: float, *shape: int) -> F64:
        """Normal values of mean 0 and standard deviation ``sd``, correlated between the hands by ``likeness``."""
        shared, own = self.shared.standard_normal(shape), self.own.standard_normal(shape)
        values: F64 = sd * (np.sqrt(self.likeness) * shared + np.sqrt(1 - self.likeness) * own)
        return values

    def scale(self, sd: float, *shape: int) -> F64:
        """Log-normal factors around 1, at most three standard deviations off."""
        values: F64 = np.exp(np.clip(self.normal(sd, *shape), -3 * sd, 3 * sd))
        return values
