"""Fine-tune both towers on images with texts."""

from typing import Literal

from pydantic import Field

from handclip_core.engine.phase import Optim, Schedule, Train
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.dual.base import ClassLoss, DualStrategy, body, projections
from handclip_core.strategies.rates import Rates, optim_for


class TwoTower(DualStrategy):
    """Image tower, text tower and projections under CLIP's own loss, the text tower at a tenth of the rate.

    Fine-tuning as CLIP was pretrained (FLYP: Goyal 2023, arXiv 2212.00638): rate 5e-6 with a warm-up and a cosine.
    What differs from the paper on classes: images of the same class in a batch are no negatives of one another.
    """

    name: Literal["two_tower"] = "two_tower"
    """Which strategy this is."""
    optim: Optim = Optim(lr=5e-6, batch_size=64, schedule=Schedule.COSINE, warmup=0.1)
    """Optimiser and schedule."""
    class_loss: ClassLoss = ClassLoss.CONTRASTIVE
    """What is minimised where images have classes: ``contrastive``, ``losses`` on pairs of an image and a sentence with
    the name of its class, of which those of its own class are no negatives, or ``cross_entropy`` of finding the class
    of each image among the texts of all classes."""
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
