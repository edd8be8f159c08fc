"""The state of a training run: everything that resuming needs, as plain tensors and numbers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from handclip_core.engine.average import WeightAverage
from handclip_core.engine.phase import Phase
from handclip_core.engine.precision import Precision

Saved = dict[str, Any]


class Memory(Protocol):
    """What outlives a step beside the weights: a penalty such as EWC, or a loss with buffers."""

    def state_dict(self) -> dict[str, Tensor]:
        """Buffers, by name."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> object:
        """Take the buffers of ``state_dict`` back."""
        ...


@dataclass
class Position:
    """Where a run stands: in which phase, after how many of its steps, after how many images and whole units."""

    phase: int = 0
    step: int = 0
    images: int = 0
    unit: int = 0


@dataclass(frozen=True)
class TrainingState:
    """A live view of a run between two steps; ``training`` and the model's state dict are copies by reference.

    ``evaluation_points`` holds a row of validation mAP by aspect for every evaluation point passed, see
    ``Phase.evaluation_point``.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    memories: tuple[Memory, ...] = ()
    position: Position = field(default_factory=Position)
    average: WeightAverage | None = None
    evaluation_points: list[list[float]] = field(default_factory=list)
    precision: Precision = Precision.FLOAT32

    def training(self) -> Saved:
        """All but the model's weights, loadable with ``weights_only=True``.

        With a moving average, those weights are the average; what training goes on from is ``raw``.
        """
        return {
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "memories": [memory.state_dict() for memory in self.memories],
            "position": asdict(self.position),
            "raw": self.average.raw() if self.average else None,
            "milestones": self.evaluation_points,
            "precision": str(self.precision),
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

    @property
    def precision(self) -> Precision:
        """What the towers computed in; states of earlier versions do not say it, and were float32 on a CPU."""
        return Precision(self.training.get("precision", Precision.FLOAT32))


def restore(resume: Resume, model: nn.Module, memories: tuple[Memory, ...]) -> None:
    """Give model and memories their saved weights and buffers, on the model's device."""
    model.load_state_dict(resume.model)
    device = next(model.parameters()).device
    for memory, saved in zip(memories, resume.training["memories"], strict=True):
        memory.load_state_dict({name: value.to(device) for name, value in saved.items()})


def memories_of(phases: Iterable[Phase], device: torch.device) -> tuple[Memory, ...]:
    """Every penalty of the phases, and every loss with buffers, once and on ``device``, in the order of first use."""
    found: dict[int, Memory] = {}
    for phase in phases:
        losses = [term.loss.to(device) for term in phase.terms if isinstance(term.loss, nn.Module)]
        memories: tuple[Memory, ...] = (*phase.penalties, *losses)
        found |= {id(memory): memory for memory in memories}
    return tuple(found.values())


def save_tensors(values: Saved, path: Path) -> None:
    """Write with a temporary name and rename, so that a killed process leaves the old file or the new one.

    Raises OSError if the system refuses, as on a full disk.
    """
    temporary = path.with_name(f"{path.name}.partial")
    with temporary.open("wb") as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:
            # All that torch itself says is at which byte it was.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    temporary.replace(path)
