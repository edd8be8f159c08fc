"""Train a linear map on frozen CLIP."""

from typing import Literal

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Optim, Phase
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import NeckKind, NeckSettings
from handclip_core.strategies.base import IdentityStrategy


class LinearProbe(IdentityStrategy):
    """Neck and identity head on the frozen image tower; unaugmented, it trains on cached activations.

    The neck's output is the embedding: with a frozen tower, nothing before it could move retrieval.
    """

    name: Literal["linear_probe"] = "linear_probe"
    """Which strategy this is."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.LINEAR)
    """What is trained between the image tower and the identity head."""
    optim: Optim = Optim(lr=1e-3)
    """Optimiser and schedule."""

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase that trains neck and head."""
        train = self.head(model)
        return (Phase("probe", self.data_spec(data), train, self.terms(model, data), self.optim),)
