"""Numeric precision of training: bfloat16 autocast where it pays, float32 elsewhere."""

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

import torch


class Precision(StrEnum):
    """What the towers compute in while they train; weights, losses and all that is measured stay float32."""

    AUTO = "auto"
    """bfloat16 on a GPU that has it; on a CPU that has it, if it was found faster there; else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast to bfloat16 if that is the ``precision``, nothing for float32."""
    if precision is Precision.BFLOAT16:
        context: AbstractContextManager[None] = torch.autocast(device.type, dtype=torch.bfloat16)
        return context
    return nullcontext()
