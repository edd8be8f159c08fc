"""Which precision an experiment trains in: on a CPU the one that was faster when both were tried there."""

import hashlib
import json
import platform
import time
from pathlib import Path
from statistics import median

import torch
from filelock import FileLock
from torch import Tensor

from handclip_core.documents import read_document
from handclip_core.engine.precision import Precision, autocast
from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone
from handclip_core.process_group import process_group
from handclip_core.runs.context import ExperimentContext

FOLDER = "precision"
SMALLEST = 1_000_000
"""Image towers of fewer weights train in float32: their kernels are too short to tell."""
IMAGES, ROUNDS = 8, 3
WORTH = 1.15
"""How much faster bfloat16 has to be."""


def precision_of(wanted: Precision, context: ExperimentContext) -> Precision:
    """``wanted``, or what it stands for on the device of ``context``; bfloat16 only if all processes find it so.

    The first time on a machine with bfloat16 instructions both are tried on the backbone, for seconds, and what was
    found is kept in the cache.
    """
    if wanted is not Precision.AUTO:
        return wanted
    device = context.device
    on_gpu = device.type == "cuda"
    faster = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _faster_on_cpu(context)
    group = process_group()
    agreed = group.sum(torch.tensor(float(faster), device=device)).item() == group.size
    return Precision.BFLOAT16 if agreed else Precision.FLOAT32


def has_bfloat16() -> bool:
    """Whether this machine's CPU computes products of bfloat16, by instructions of its own or in their place."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _faster_on_cpu(context: ExperimentContext) -> bool:
    tower = context.pretrained
    if context.device.type != "cpu" or tower.num_weights < SMALLEST or not has_bfloat16():
        return False
    return _speedup(tower, context.cache) >= WORTH


def _speedup(tower: Backbone, cache: Path) -> float:
    """How many times as fast as in float32 the image tower trains in bfloat16, as measured once on this host."""
    machine = {"host": platform.node(), "cpu": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    about = {"tower": tower.name, "image_px": tower.image_px, **machine}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / FOLDER / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # trials that begin together try it once
        try:
            return float(read_document(path)["speedup"])
        except (InputError, KeyError, TypeError, ValueError):
            pass  # not tried yet, or half-written by a process that was killed
        seconds = {precision: _step_s(tower, precision) for precision in (Precision.FLOAT32, Precision.BFLOAT16)}
        found = seconds[Precision.FLOAT32] / seconds[Precision.BFLOAT16]
        path.write_text(json.dumps({"speedup": found, "cpu_seconds": seconds, **about}, indent=2), encoding="utf-8")
    return found


def _step_s(tower: Backbone, precision: Precision) -> float:
    """Seconds of all cores that a forward and a backward pass take, the median of several after the first."""
    copy, threads = tower.copy().requires_grad_().train(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):  # what is drawn for dropout must not be missing elsewhere
        pixels = torch.rand(IMAGES, 3, tower.image_px, tower.image_px)
        torch.set_num_threads(1)  # those that wait for others use a core, too
        try:
            return median([_pass_s(copy, pixels, precision) for _ in range(1 + ROUNDS)][1:])
        finally:
            torch.set_num_threads(threads)


def _pass_s(tower: Backbone, pixels: Tensor, precision: Precision) -> float:
    started = time.process_time()
    with autocast(pixels.device, precision):
        projected = tower(pixels).projected
    projected.float().sum().backward()
    return time.process_time() - started
