"""Train low-rank updates of both towers on images with texts."""

from typing import Literal

from pydantic import Field

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Optim, Schedule, Train
from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import LoraTargets, insert_lora, lora_prefixes
from handclip_core.models.neck import NeckSettings
from handclip_core.strategies.base import Strategy
from handclip_core.strategies.dual.base import DualStrategy
from handclip_core.strategies.lora import Lora


class ClipLora(DualStrategy):
    """CLIP-LoRA (Zanella 2024, arXiv 2405.18541): updates of rank 2 in the attention of every block of both towers.

    What differs from the paper: query, key and value are one map here and share an update, and the output projection
    has one too; updates are multiplied by 1 (in the authors' code by 1 / sqrt 2) and batches have 64 images (32); the
    temperature is trained, too. On classes the loss is the paper's, cross-entropy over the texts of all of them; on
    captions it is between the images and captions of a batch.
    """

    name: Literal["clip_lora"] = "clip_lora"
    """Which strategy this is."""
    rank: int = Field(2, ge=1, le=1024)
    """Rank of an update."""
    alpha: float = Field(2.0, gt=0, le=4096)
    """Strength of the updates: each is multiplied by alpha / rank."""
    dropout: float = Field(0.25, ge=0, lt=1)
    """Share of an update's inputs that a training step leaves out."""
    targets: LoraTargets = LoraTargets.ATTENTION
    """Which maps get an update: those of attention, of the MLP, or both."""
    last_blocks: int | None = Field(None, ge=1, le=64)
    """Blocks of each tower that get updates, counted from the output; none for all."""
    optim: Optim = Optim(lr=2e-4, batch_size=64, schedule=Schedule.COSINE)
    """Optimiser and schedule."""

    def build(self, backbone: Backbone, data: TrainingData) -> HandModel:
        """Both towers with updates that start at zero; a tower of rate 0 has none."""
        towers = ((self.vision, backbone.blocks()), (self.text, backbone.text_blocks()))
        insert_lora(
            backbone,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets,
            last_blocks=self.last_blocks,
            towers=tuple(blocks for rate, blocks in towers if rate),
        )
        return super().build(backbone, data)

    @property
    def of_images(self) -> Strategy:
        """The image tower with its updates, if it has any."""
        if not self.vision:
            return super().of_images
        return Lora(
            rank=self.rank, alpha=self.alpha, targets=self.targets, last_blocks=self.last_blocks, neck=NeckSettings()
        )

    def trained(self, model: HandModel) -> tuple[Train, ...]:
        """The updates."""
        return tuple(
            Train(f"backbone.{prefix}", self.text if prefix.startswith("text.") else self.vision)
            for prefix in lora_prefixes(model.backbone)
        )
