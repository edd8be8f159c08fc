"""What a phase is: data, what is trained, which losses, at which rates, for which share of the budget."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.data.augment import AugmentSettings
from handclip_core.data.samplers import Pool, Sampler
from handclip_core.losses.term import Term
from handclip_core.types import Batch


class Schedule(StrEnum):
    """How the learning rate moves over a phase after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    STEPS = "steps"


class Optim(Config):
    """AdamW and its schedule."""

    lr: float = Field(1e-5, gt=0, le=1)
    """Peak learning rate of the parameters with scale 1."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decoupled weight decay of matrices; norms, biases and other vectors have none."""
    batch_size: int = Field(32, ge=2, le=4096)
    """Images a step."""
    schedule: Schedule = Schedule.CONSTANT
    """Shape of the rate after the warm-up; cosine ends at zero, steps fall at each of ``drops``."""
    drops: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (30 / 60, 50 / 60)
    """Shares of the phase's steps, warm-up and all, at which ``steps`` multiplies the rate by ``drop_factor``."""
    drop_factor: float = Field(0.1, gt=0, le=1)
    """What the rate is multiplied by at each of ``drops``."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the phase's steps over which the rate rises linearly."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest L2 norm of the whole gradient; None for no clipping."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay a step of a moving average of the weights, which is evaluated and saved in their place; 0 for none."""


@dataclass(frozen=True)
class Train:
    """Parameters whose dotted name starts with ``prefix`` are trained; ``*`` stands for one part of a name."""

    prefix: str
    lr_scale: float = 1.0


class Penalty(Protocol):
    """A term on the weights that outlives its phase, such as EWC. Its buffers are checkpointed."""

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty, a scalar."""
        ...

    def consolidate(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        """Learn from a phase that has just ended."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Buffers, by name."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> object:
        """Take the buffers of ``state_dict`` back."""
        ...


@dataclass(frozen=True)
class DataSpec:
    """Which images a phase shows, in the sampler's order: manifest ``rows`` [n], with classes and aspects."""

    rows: NDArray[np.int64]
    pool: Pool
    sampler: Sampler
    augment: AugmentSettings

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.pool.labels) == len(self.pool.aspects) > 0


@dataclass(frozen=True)
class Phase:
    """One stretch of training. ``share`` is its part of the budget relative to the other phases' shares.

    ``evaluate=False`` marks a phase in which nothing can move retrieval: its units are saved, not evaluated.
    ``evaluation_point=True`` asks for the score of every aspect after the phase and before the first such phase: rows
    of a forgetting matrix. Such a phase bears the name of its aspect.
    """

    name: str
    data: DataSpec
    train: tuple[Train, ...]
    terms: tuple[Term, ...]
    optim: Optim
    share: float = 1.0
    penalties: tuple[Penalty, ...] = ()
    evaluate: bool = True
    evaluation_point: bool = False


def evaluation_points_of(phases: Iterable[Phase]) -> tuple[str, ...]:
    """Names of the phases with an evaluation point: for such a phase, the aspect that it trains."""
    return tuple(phase.name for phase in phases if phase.evaluation_point)
