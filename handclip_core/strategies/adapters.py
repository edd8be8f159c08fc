"""Train small bottlenecks inside the frozen image tower."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Optim, Phase, Train
from handclip_core.models.adapters import Place, adapter_prefixes, insert_adapters
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import EmbeddingAt, NeckKind, NeckSettings
from handclip_core.strategies.base import IdentityStrategy


class Adapters(IdentityStrategy):
    """Two-layer bottlenecks (Houlsby 2019, arXiv 1902.00751) with neck and head; everything else stays frozen."""

    name: Literal["adapters"] = "adapters"
    """Which strategy this is."""
    width: int = Field(64, ge=1, le=4096)
    """Width of the bottleneck."""
    place: Place = Place.BOTH
    """Where the adapters stand: after attention, after the MLP, or after both; in a ResNet after the last stage, after
    those before it, or after all."""
    optim: Optim = Optim(lr=1e-3)
    """Optimiser and schedule."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.BN, embedding=EmbeddingAt.BEFORE)
    """What stands between image tower and identity head; a batch norm before the head, as for ``lora``."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The backbone with adapters that start as the identity, neck and head."""
        insert_adapters(backbone, bottleneck=self.width, place=self.place)
        return super().build(backbone, data)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase that trains adapters, neck and head."""
        adapters = (Train(f"backbone.{prefix}") for prefix in adapter_prefixes(model.backbone))
        train = (*adapters, *self.head(model))
        return (Phase("adapters", self.data_spec(data), train, self.terms(model, data), self.optim),)
