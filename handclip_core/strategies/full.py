"""Fine-tune the whole image tower."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.pull import pull_to_pretrained
from handclip_core.strategies.tower import TowerStrategy


class Full(TowerStrategy):
    """Image tower, neck and head under identity cross-entropy: AdamW, rate 1e-5, weight decay 0.01, no scheduler."""

    name: Literal["full"] = "full"
    """Which strategy this is."""
    pull: float = Field(0.0, ge=0, le=1e6)
    """Strength lambda of lambda * sum (theta - pretrained)^2 over what is trained of the tower (L2-SP: Li 2018, arXiv
    1802.01483; where all blocks but the projection are frozen, ProLIP: Fahes 2024, arXiv 2410.05270)."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training images."""
        terms, optim, train = self.terms(model, data), self.tower_optim(model), self.trained(model)
        penalties = pull_to_pretrained(model, train, strength=self.pull)
        return (Phase("full", self.data_spec(data), train, terms, optim, penalties=penalties),)
