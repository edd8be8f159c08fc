"""Which device to run on, and how much of its memory was used."""

import resource
import sys
from enum import StrEnum
from pathlib import Path

import torch

from handclip_core.errors import InputError

MIB = 1 << 20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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


def room_for(num_bytes: int, device: torch.device, *, kept: int) -> bool:
    """Whether a GPU can hold so much that is read again and again, beside what trains on it; never on a CPU.

    With the bytes that this process has ``kept`` there already it may take a quarter of what others leave free, so that
    several trials find room on one GPU.
    """
    return device.type == "cuda" and 4 * (kept + num_bytes) <= torch.cuda.mem_get_info(device)[0] + kept


def reset_peak_memory(device: torch.device) -> None:
    """Let ``peak_memory`` speak of what is used from now on; where the system cannot, it keeps what was used before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR_REFS.write_text("5")  # proc(5): the peak resident set size becomes the present one
    except OSError:
        return


def peak_memory(device: torch.device) -> int:
    """Most bytes that were used at a time: allocated of a GPU, else the resident set of this process.

    The latter includes the interpreter, its libraries, and what is read of mapped files.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    found = _status("VmHWM")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_own_memory() -> int:
    """Most bytes of the machine's memory that this process has held at a time, but pages of files; 0 if nobody knows.

    What it shares with the process that it was forked from counts too. Of an earlier peak nothing is said once
    ``reset_peak_memory`` was called for the CPU.
    """
    peak, files = _status("VmHWM"), _status("RssFile")
    return 0 if peak is None or files is None else max(0, peak - files)


def _status(field: str) -> int | None:
    """Bytes that Linux tells of this process."""
    try:
        (found,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(found.split()[1]) * 1024
    except (OSError, ValueError):
        return None
