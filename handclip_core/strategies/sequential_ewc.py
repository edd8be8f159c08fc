"""One aspect after another, with elastic weight consolidation against forgetting."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Penalty, Phase
from handclip_core.losses.ewc import EWC, Remember
from handclip_core.losses.l2_sp import L2SP
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.aspect_order import AspectOrder

PROTECTED = ("backbone.", "neck.")


class Against(StrEnum):
    """What holds weights back: what earlier phases knew, or the pretrained weights."""

    EWC = "ewc"
    L2_SP = "l2_sp"


class SequentialEWC(AspectOrder):
    """A phase an aspect with equal shares of the budget; EWC (Kirkpatrick 2017, arXiv 1612.00796) between them."""

    name: Literal["sequential_ewc"] = "sequential_ewc"
    """Which strategy this is."""
    penalty: Against = Against.EWC
    """``ewc``, or its control ``l2_sp`` (Li 2018, arXiv 1802.01483), which pulls every weight to the pretrained one."""
    strength: float = Field(1.0, ge=0, le=1e6)
    """The penalty's lambda, on Fisher information of mean one; 0 turns it off, which is plain sequential training."""
    remember: Remember = Remember.ONLINE
    """``online`` adds up the information of all phases; ``separate`` keeps each phase's, with its own anchor."""
    fisher_decay: float = Field(1.0, ge=0, le=1)
    """What earlier phases' information is multiplied by when ``online`` adds a phase (its gamma)."""
    fisher_samples: int = Field(200, ge=1, le=100_000)
    """Images a phase that the Fisher information is computed on."""
    fisher_draws: int | None = Field(1, ge=1, le=1000)
    """Backward passes an image, each over all classes with random signs; none for one pass a class, which is exact."""

    @model_validator(mode="after")
    def _the_head_is_trained(self) -> Self:
        if self.strength and self.penalty is Against.EWC and not self.losses.identity.weight:
            raise ValueError(
                "losses.identity.weight is 0, so that the identity head, whose posterior EWC's Fisher information is "
                "of, stays random: give it a weight, or set penalty: l2_sp or strength: 0"
            )
        return self

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase an aspect, all under one penalty; under none if ``strength`` is 0.

        Even a penalty of zero would give weights that no loss reaches a gradient, and with it AdamW's decay.
        """
        return self.aspect_phases(model, data, penalties=(self._penalty(model),) if self.strength else ())

    def _penalty(self, model: HandModel) -> Penalty:
        if self.penalty is Against.L2_SP:
            backbone = {name: p for name, p in model.named_parameters() if name.startswith("backbone.")}
            return L2SP({name: p.detach().clone() for name, p in backbone.items()}, strength=self.strength)
        return EWC(
            strength=self.strength,
            num_samples=self.fisher_samples,
            num_draws=self.fisher_draws,
            prefixes=PROTECTED,
            remember=self.remember,
            decay=self.fisher_decay,
            logit_scale=self.losses.identity.scale if self.losses.margin_head else 1.0,
        )
