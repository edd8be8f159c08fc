"""The best of several normal numbers."""

from functools import cache
from math import erf, exp, pi, sqrt

import numpy as np


@cache
def expected_maximum(count: int) -> float:
    """Mean of the largest of ``count`` standard normal numbers, by quadrature."""
    at = np.linspace(-9.0, 9.0, 3001)
    below = np.array([_share_below(x) for x in at])
    density = np.exp(-(at**2) / 2) / sqrt(2 * pi)
    return float(np.trapezoid(at * count * density * below ** (count - 1), at))


def expected_improvement(mean: float, sd: float, best: float) -> float:
    """By how much a normal number is expected to exceed ``best``, nothing if it does not (Mockus 1978)."""
    if sd == 0:
        return max(0.0, mean - best)
    z = (mean - best) / sd
    return sd * (z * _share_below(z) + exp(-(z**2) / 2) / sqrt(2 * pi))


def _share_below(z: float) -> float:
    return 0.5 * (1 + erf(z / sqrt(2)))
