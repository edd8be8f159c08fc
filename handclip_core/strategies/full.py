"""Fine-tune the whole image tower."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.base import IdentityStrategy, trained_blocks


class Full(IdentityStrategy):
    """Image tower, neck and head under identity cross-entropy: AdamW, rate 1e-5, weight decay 0.01, no scheduler."""

    name: Literal["full"] = "full"
    """Which strategy this is."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one before it (FT-CLIP, arXiv 2212.06138, uses 0.6)."""
    frozen_blocks: int = Field(0, ge=0, le=64)
    """Blocks that stay frozen, counted from the input; the stem is the first. At least the last one trains."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase over all training pictures."""
        backbone = trained_blocks(model.backbone, layer_decay=self.layer_decay, frozen=self.frozen_blocks)
        train = (*backbone, *self.head(model))
        return (Phase("full", self.data_spec(data), train, self.terms(model, data), self.optim),)
