"""Fine-tune both towers on captions."""

from typing import Literal

from pydantic import Field

from handclip_core.engine.phase import Optim, Schedule, Train
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.dual.base import DualStrategy, body, projections
from handclip_core.strategies.rates import Rates, optim_for


class TwoTower(DualStrategy):
    """Image tower, text tower and projections under CLIP's own loss, the text tower at a tenth of the rate.

    Fine-tuning as CLIP was pretrained (FLYP: Goyal 2023, arXiv 2212.00638): rate 5e-6 with a warm-up and a cosine.
    """

    name: Literal["two_tower"] = "two_tower"
    """Which strategy this is."""
    optim: Optim = Optim(lr=5e-6, batch_size=64, schedule=Schedule.COSINE, warmup=0.1)
    """Optimiser and schedule."""
    text: float = Field(0.1, ge=0, le=10_000)
    """Learning rate of the text tower relative to ``optim.lr``; 0 freezes it."""
    projection: float = Field(1.0, ge=0, le=10_000)
    """Learning rate of the projections relative to the rest of their tower; 0 freezes them."""
    rates: Rates = Rates.BY_SIZE
    """Whether ``optim.lr`` is for an image tower of ViT-B/16's size, from which that of another follows (``by_size``),
    or holds for any (``published``)."""

    def trained(self, model: HandModel) -> tuple[Train, ...]:
        """Both towers."""
        towers = body(model.backbone, vision=self.vision, text=self.text)
        last = projections(model.backbone, vision=self.vision * self.projection, text=self.text * self.projection)
        return (*towers, *last)

    def tower_optim(self, model: HandModel) -> Optim:
        """Optimiser and schedule with the rate for the model's image tower."""
        return optim_for(model.backbone, self.optim, self.rates)
