"""Train low-rank updates of the frozen image tower's attention and MLP."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Optim, Phase, Train
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import LoraTargets, insert_lora, lora_prefixes
from handclip_core.models.neck import EmbeddingAt, NeckKind, NeckSettings
from handclip_core.strategies.base import IdentityStrategy


class Lora(IdentityStrategy):
    """Low-rank updates (Hu 2021, arXiv 2106.09685) of rank 16 and alpha 32 at rate 1e-3, with neck and head.

    The neck is a batch norm before the head, as in CLIP-ReID (Li 2023, arXiv 2211.13977). Without it the head's steps
    grow with the length of the embeddings: at this rate the head fits the identities before the tower has learnt.
    """

    name: Literal["lora"] = "lora"
    """Which strategy this is."""
    rank: int = Field(16, ge=1, le=1024)
    """Rank of an update."""
    alpha: float = Field(32.0, gt=0, le=4096)
    """Strength of the updates: each is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an update's inputs that a training step leaves out."""
    targets: LoraTargets = LoraTargets.BOTH
    """Which maps get an update: those of attention (in a ResNet, of the attention pool), of the MLP (in a ResNet, the
    convolutions of the bottlenecks), or both."""
    last_blocks: int | None = Field(None, ge=1, le=64)
    """Blocks with such maps that get updates, counted from the output; none for all."""
    optim: Optim = Optim(lr=1e-3, batch_size=64)
    """Optimiser and schedule."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.BN, embedding=EmbeddingAt.BEFORE)
    """What stands between image tower and identity head."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """The backbone with updates that start at zero, neck and head."""
        insert_lora(
            backbone,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets,
            last_blocks=self.last_blocks,
        )
        return super().build(backbone, data)

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase that trains updates, neck and head."""
        updates = (Train(f"backbone.{prefix}") for prefix in lora_prefixes(model.backbone))
        train = (*updates, *self.head(model))
        return (Phase("lora", self.data_spec(data), train, self.terms(model, data), self.optim),)
