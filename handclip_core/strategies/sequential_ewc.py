"""One aspect after another, with elastic weight consolidation against forgetting."""

from typing import Literal, Self

from pydantic import Field, model_validator

from handclip_core.data.training import LabelBy, TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.errors import InputError
from handclip_core.losses.ewc import EWC
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.base import IdentityStrategy, trained_blocks
from handclip_core.types import HAND_ASPECTS, Aspect


class SequentialEWC(IdentityStrategy):
    """A phase an aspect with equal shares of the budget; EWC (Kirkpatrick 2017, arXiv 1612.00796) between them."""

    name: Literal["sequential_ewc"] = "sequential_ewc"
    """Which strategy this is."""
    labels: LabelBy = LabelBy.PERSON
    """What counts as one class; a person by default, so that all phases train one head."""
    order: tuple[Aspect, ...] = HAND_ASPECTS
    """Aspects in the order of training; those that the experiment does not use are passed over."""
    strength: float = Field(1.0, ge=0, le=1e6)
    """EWC's lambda on Fisher information of mean one; 0 turns the penalty off."""
    fisher_decay: float = Field(1.0, ge=0, le=1)
    """What earlier phases' information is multiplied by when a phase is added (online EWC's gamma)."""
    fisher_samples: int = Field(40, ge=1, le=100_000)
    """Pictures a phase that the Fisher information is computed on; each costs a backward pass for every class."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one before it."""

    @model_validator(mode="after")
    def _no_aspect_twice(self) -> Self:
        if len(set(self.order)) != len(self.order) or not self.order:
            raise ValueError("name each aspect once, and at least one")
        return self

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase an aspect, all under one penalty."""
        order = [aspect for aspect in self.order if aspect in data.aspects]
        if not order:
            raise InputError(f"strategy.order: none of {', '.join(self.order)} is an aspect of the data")
        penalty = EWC(
            strength=self.strength,
            decay=self.fisher_decay,
            num_samples=self.fisher_samples,
            prefixes=("backbone.", "neck."),
        )
        train = (
            *trained_blocks(model.backbone, layer_decay=self.layer_decay),
            *self.head(model),
        )
        return tuple(
            Phase(
                aspect,
                self.data_spec(data, aspects=[aspect]),
                train,
                self.terms(model, data),
                self.optim,
                penalties=(penalty,),
            )
            for aspect in order
        )
