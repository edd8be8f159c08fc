"""Fine-tune the whole image tower."""

from typing import Literal

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.tower import TowerStrategy


class Full(TowerStrategy):
    """Image tower, neck and head under identity cross-entropy: AdamW, rate 1e-5, weight decay 0.01, no scheduler."""

    name: Literal["full"] = "full"
    """Which strategy this is."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images."""
        terms, optim = self.terms(model, data), self.tower_optim(model)
        return (Phase("full", self.data_spec(data), self.trained(model), terms, optim),)
