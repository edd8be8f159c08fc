"""Losses are computed in float32 whatever the precision of the model."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same values in float32; float64 stays as it is."""
    return values if values.dtype == torch.float64 else values.float()


def without_autocast(values: Tensor) -> AbstractContextManager[None]:
    """A context in which products keep the precision of ``values``."""
    context: AbstractContextManager[None] = torch.autocast(values.device.type, enabled=False)
    return context
