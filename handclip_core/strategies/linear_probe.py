"""Train a linear map on frozen CLIP, and the tower after it if wanted."""

from typing import Literal, Self

from pydantic import Field, model_validator

from handclip_core.data.training import TrainingData
from handclip_core.engine.phase import Optim, Phase
from handclip_core.losses.reading import ReadFrom
from handclip_core.models.hand_model import HandModel
from handclip_core.models.neck import EmbeddingAt, NeckKind, NeckSettings
from handclip_core.strategies.base import IdentityStrategy, trained_blocks
from handclip_core.strategies.rates import Rates, rate_for


class LinearProbe(IdentityStrategy):
    """Neck and identity head on the frozen image tower; unaugmented, it trains on cached activations.

    The neck's output is the embedding: with a frozen tower, nothing before it could move retrieval. With
    ``finetune_share``, a second phase fine-tunes tower, neck and head from there (LP-FT: Kumar 2022, arXiv 2202.10054).
    """

    name: Literal["linear_probe"] = "linear_probe"
    """Which strategy this is."""
    neck: NeckSettings = NeckSettings(kind=NeckKind.LINEAR)
    """What is trained between the image tower and the identity head."""
    optim: Optim = Optim(lr=1e-3)
    """Optimiser and schedule of the probe."""
    finetune_share: float = Field(0.0, ge=0, lt=1)
    """Share of the budget that fine-tunes the whole tower after the probe; 0 for none."""
    finetune_lr: float = Field(1e-5, gt=0, le=1)
    """Peak learning rate of tower, neck and head while fine-tuning."""
    rates: Rates = Rates.BY_SIZE
    """Whether ``finetune_lr`` is for a tower of ViT-B/16's size, from which that of another follows (``by_size``), or
    holds for any (``published``)."""

    @model_validator(mode="after")
    def _losses_reach_what_is_trained(self) -> Self:
        if self.finetune_share:
            return self
        if self.neck.kind is NeckKind.NONE or self.neck.embedding is EmbeddingAt.BEFORE:
            raise ValueError(
                "neck: before a frozen tower, only what is read after a neck can change; choose a neck with embedding: "
                "after, or set finetune_share"
            )
        if self.losses.image_text.weight or (self.losses.reads_vectors and self.losses.on is not ReadFrom.EMBEDDING):
            raise ValueError(
                "losses: image_text, and losses on trunk or projected, read the frozen tower; set finetune_share, or "
                "on: embedding"
            )
        return self

    def phases(self, model: HandModel, data: TrainingData) -> tuple[Phase, ...]:
        """One phase that trains neck and head, and one that trains everything."""
        spec, terms, head = self.data_spec(data), self.terms(model, data), self.head(model)
        probing = tuple(term for term in terms if self._reaches_the_neck(term.name))
        probe = Phase("probe", spec, head, probing, self.optim, share=1 - self.finetune_share)
        if not self.finetune_share:
            return (probe,)
        lr = rate_for(model.backbone, self.finetune_lr, self.rates)
        optim = self.optim.model_copy(update={"lr": lr})
        everything = (*trained_blocks(model.backbone), *head)
        return (probe, Phase("fine-tuning", spec, everything, terms, optim, share=self.finetune_share))

    def _reaches_the_neck(self, loss: str) -> bool:
        """Whether a loss reads anything but the frozen tower."""
        behind = self.neck.kind is not NeckKind.NONE and self.neck.embedding is EmbeddingAt.AFTER
        return loss == "identity" or (loss != "image_text" and behind and self.losses.on is ReadFrom.EMBEDDING)
