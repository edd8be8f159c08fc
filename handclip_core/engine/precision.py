"""Numeric precision: bfloat16 autocast if the hardware has it, float32 elsewhere."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 autocast on a CUDA device that supports it, nothing on any other."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        context: AbstractContextManager[None] = torch.autocast("cuda", dtype=torch.bfloat16)
        return context
    return nullcontext()
