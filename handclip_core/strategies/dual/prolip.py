"""Train the projections of both towers on images with texts, pulled to what they were."""

from typing import Literal

from pydantic import Field

from handclip_core.engine.phase import Optim, Schedule, Train
from handclip_core.models.hand_model import HandModel
from handclip_core.strategies.dual.base import DualStrategy, projections


class ProLip(DualStrategy):
    """ProLIP (Fahes 2024, arXiv 2410.05270): the last linear map of each tower, with a pull to the pretrained one.

    What differs from the paper: the text tower's map and the temperature are trained too (``text: 0`` and
    ``losses.learn_temperature: false`` leave them as they are). On classes the loss is the paper's, cross-entropy over
    the texts of all of them; on captions it is between the images and captions of a batch.
    """

    name: Literal["prolip"] = "prolip"
    """Which strategy this is."""
    optim: Optim = Optim(lr=1e-4, weight_decay=0.0, batch_size=64, schedule=Schedule.COSINE)
    """Optimiser and schedule."""
    pull: float = Field(0.1, ge=0, le=1e6)
    """Strength lambda of lambda * sum (theta - pretrained)^2 over the projections."""

    def trained(self, model: HandModel) -> tuple[Train, ...]:
        """The projections."""
        return projections(model.backbone, vision=self.vision, text=self.text)
