"""The state of a training run: everything that resuming needs, as plain tensors and numbers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handclip_core.engine.phase import Penalty, Phase

Saved = dict[str, Any]


@dataclass
class Position:
    """Where a run stands: in which phase, after how many of its steps, after how many images and whole units."""

    phase: int = 0
    step: int = 0
    images: int = 0
    unit: int = 0


@dataclass(frozen=True)
class TrainingState:
    """A live view of a run between two steps; ``training`` and the model's state dict are copies by reference."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    penalties: tuple[Penalty, ...]
    position: Position

    def training(self) -> Saved:
        """Optimiser, penalties and position, loadable with ``weights_only=True``."""
        return {
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "penalties": [penalty.state_dict() for penalty in self.penalties],
            "position": asdict(self.position),
        }


@dataclass(frozen=True)
class Resume:
    """A saved run: the model's state dict and what ``TrainingState.training`` gave."""

    model: Saved
    training: Saved

    @property
    def position(self) -> Position:
        """Where the saved run stood."""
        return Position(**self.training["position"])


def restore(resume: Resume, model: nn.Module, penalties: tuple[Penalty, ...]) -> None:
    """Give model and penalties their saved weights and buffers, on the model's device."""
    model.load_state_dict(resume.model)
    device = next(model.parameters()).device
    for penalty, saved in zip(penalties, resume.training["penalties"], strict=True):
        penalty.load_state_dict({name: value.to(device) for name, value in saved.items()})


def penalties_of(phases: Iterable[Phase]) -> tuple[Penalty, ...]:
    """Every penalty of the phases once, in the order of first use."""
    return tuple({id(penalty): penalty for phase in phases for penalty in phase.penalties}.values())


def save_tensors(values: Saved, path: Path) -> None:
    """Write with a temporary name and rename, so that a killed process leaves the old file or the new one."""
    temporary = path.with_name(f"{path.name}.partial")
    torch.save(values, temporary)
    temporary.replace(path)
