"""What the strategies share that train the image tower itself."""

from pydantic import Field

from handclip_core.engine.phase import Optim, Train
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.base import IdentityStrategy, trained_blocks
from handclip_core.strategies.rates import Rates, optim_for


class TowerStrategy(IdentityStrategy):
    """Settings of the strategies that train image tower, neck and head together."""

    rates: Rates = Rates.BY_SIZE
    """Whether ``optim.lr`` is for a tower of ViT-B/16's size, from which that of another follows (``by_size``), or
    holds for any (``published``)."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one before it (FT-CLIP, arXiv 2212.06138, uses 0.6)."""
    frozen_blocks: int = Field(0, ge=0, le=64)
    """Blocks that stay frozen, counted from the input; the stem is the first. One at least has to train."""
    frozen_projection: bool = False
    """Whether CLIP's projection (a ResNet's attention pool) stays frozen while blocks before it train."""

    def tower_optim(self, model: HandModel) -> Optim:
        """Optimiser and schedule with the rate for the model's tower."""
        return optim_for(model.architecture, self.optim, self.rates)

    def trained(self, model: HandModel) -> tuple[Train, ...]:
        """Blocks, neck and head, with their learning rates."""
        blocks = trained_blocks(
            model.backbone,
            layer_decay=self.layer_decay,
            frozen=self.frozen_blocks,
            frozen_projection=self.frozen_projection,
        )
        return (*blocks, *self.head(model))
