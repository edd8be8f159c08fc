"""Which device to run on."""

from enum import StrEnum

import torch

from handclip_core.errors import InputError


class Device(StrEnum):
    """``auto`` takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def select_device(name: Device | str) -> torch.device:
    """The torch device for ``name``; raises InputError if a GPU is asked for and there is none."""
    available = torch.cuda.is_available()
    if name == Device.CUDA and not available:
        raise InputError("device: 'cuda' was asked for, but this machine shows no CUDA GPU; use 'cpu' or 'auto'")
    return torch.device("cuda" if available and name != Device.CPU else "cpu")


def seed_generator(seed: int, device: torch.device) -> None:
    """Seed what draws random numbers on the CPU and on ``device``, as ``torch.manual_seed`` does.

    That one seeds every kind of device there is, and notes a stack trace for each: longer than a step of a small head.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
