"""A loss of a phase and its weight."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from handclip_core.types import Batch, Output

Loss = Callable[[Output, Batch], Tensor]
"""From a model's output and its batch to a scalar. A loss with a memory is a module that keeps it in buffers."""


@dataclass(frozen=True)
class Term:
    """One loss of a phase: ``loss(output, batch)`` is a scalar."""

    name: str
    loss: Loss
    weight: float = 1.0
