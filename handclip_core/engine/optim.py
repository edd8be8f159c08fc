"""From a phase's declarations to an optimiser: which parameters train, and at which rate."""

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from handclip_core.engine.phase import Optim, Schedule, Train


@dataclass(frozen=True)
class Chosen:
    """A trained parameter and the declaration that chose it."""

    name: str
    parameter: nn.Parameter
    train: Train


def choose(model: nn.Module, train: tuple[Train, ...]) -> list[Chosen]:
    """The parameters that ``train`` names, first match first; a prefix that matches nothing is a ValueError."""
    patterns = [(_pattern(item.prefix), item) for item in train]
    used: set[str] = set()
    chosen = []
    for name, parameter in model.named_parameters():
        matches = [item for pattern, item in patterns if pattern.match(name)]
        used.update(item.prefix for item in matches)
        if matches:
            chosen.append(Chosen(name, parameter, matches[0]))
    missing = [item.prefix for item in train if item.prefix not in used]
    if missing:
        raise ValueError(f"no parameter of the model starts with {missing[0]!r}")
    return chosen


def freeze_all_but(model: nn.Module, chosen: list[Chosen]) -> None:
    """Let gradients flow to the chosen parameters alone."""
    model.requires_grad_(False)
    for item in chosen:
        item.parameter.requires_grad_(True)


def build_optimizer(chosen: list[Chosen], optim: Optim) -> torch.optim.AdamW:
    """AdamW in one kernel, with a group for every (declaration, decayed or not); ``peak_lr`` is a group's peak rate."""
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for item in chosen:
        decays = item.parameter.ndim > 1
        group = groups.setdefault((item.train.prefix, decays), _group(item.train, optim, decays=decays))
        group["params"].append(item.parameter)
    return torch.optim.AdamW(list(groups.values()), lr=optim.lr, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, optim: Optim, *, step: int, num_steps: int) -> None:
    """Give every group its rate for ``step`` of ``num_steps``, a pure function of both: resuming needs no state."""
    factor = rate_factor(optim, step=step, num_steps=num_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def rate_factor(optim: Optim, *, step: int, num_steps: int) -> float:
    """The rate relative to its peak: linear warm-up, then constant, a half cosine to zero, or falling in steps."""
    warmup = round(optim.warmup * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if optim.schedule is Schedule.CONSTANT:
        return 1.0
    if optim.schedule is Schedule.STEPS:
        return optim.drop_factor ** sum(step >= round(drop * num_steps) for drop in optim.drops)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


def _group(train: Train, optim: Optim, *, decays: bool) -> dict[str, Any]:
    lr = optim.lr * train.lr_scale
    return {
        "params": [],
        "name": train.prefix,
        "lr": lr,
        "peak_lr": lr,
        "weight_decay": optim.weight_decay if decays else 0.0,
    }


def _pattern(prefix: str) -> re.Pattern[str]:
    parts = [r"[^.]+" if part == "*" else re.escape(part) for part in prefix.split(".")]
    return re.compile(r"\.".join(parts) + r"(\.|$)")
