"""One aspect after another."""

from typing import Literal

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.aspect_order import AspectOrder


class Sequential(AspectOrder):
    """Full fine-tuning on one aspect after another, with nothing against forgetting."""

    name: Literal["sequential"] = "sequential"
    """Which strategy this is."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase an aspect."""
        return self.aspect_phases(model, data)
