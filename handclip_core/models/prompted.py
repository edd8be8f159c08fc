"""A model with a text for every class, and an identity head on each of the vectors that its embedding is made of."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from handclip_core.models.backbone import Backbone
from handclip_core.models.hand_model import HandModel, identity_head
from handclip_core.models.neck import Neck, NeckInput, NeckKind
from handclip_core.models.prompts import Prompts
from handclip_core.types import Batch, Encoded, Output


@dataclass(frozen=True)
class PartedOutput(Output):
    """An output and its ``parts``: the same for each vector alone. The whole's logits are the mean of the parts'."""

    parts: tuple[Output, ...] = ()


@dataclass(frozen=True)
class Part:
    """A vector of the embedding: its ``name``, its ``columns``, its width, and that of the input of its head."""

    name: str
    columns: slice
    width: int
    head_width: int


class PromptedModel(HandModel):
    """Prompts beside image tower and neck, and a head for each part that the neck keeps apart.

    A neck that reads both vectors of the tower and has no layer that mixes them, such as a batch norm, keeps two parts,
    each with a head of its own (CLIP-ReID's two necks: Li 2023, arXiv 2211.13977); every other neck is one part. While
    the prompts learn, the neck is in evaluation mode: nothing then moves retrieval.
    """

    def __init__(
        self, backbone: Backbone, neck: Neck, prompts: Prompts, *, num_classes: int, margin_head: bool = False
    ) -> None:
        super().__init__(backbone, neck, num_classes=0)
        self.prompts = prompts
        self.parts = _parts(neck, backbone)
        self.head = nn.ModuleList(
            identity_head(part.head_width, num_classes, margin=margin_head) for part in self.parts
        )

    def forward_head(self, encoded: Encoded, batch: Batch) -> PartedOutput:
        """All that stands on the image tower, and the texts of the batch's classes or of all."""
        assert isinstance(self.head, nn.ModuleList)
        neck = self.neck(encoded)
        found = tuple(
            Output(encoded, neck.embedding[:, part.columns], head(neck.head_input[:, part.columns]))
            for part, head in zip(self.parts, self.head, strict=True)
        )
        logits = torch.stack([output.logits for output in found]).mean(dim=0)
        return PartedOutput(encoded, neck.embedding, logits, texts=self.prompts(batch.labels), parts=found)

    @property
    def has_text_tower(self) -> bool:
        """Prompts are read while they learn."""
        return self.prompts.learning

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the neck stays in evaluation mode while the prompts learn."""
        super().train(mode)
        if self.prompts.learning:
            self.neck.eval()
        return self


def _parts(neck: Neck, backbone: Backbone) -> tuple[Part, ...]:
    """The neck's columns: projected first if it reads both."""
    settings = neck.settings
    if settings.source is not NeckInput.BOTH or settings.kind not in (NeckKind.NONE, NeckKind.BN):
        return (Part(settings.source, slice(None), neck.width, neck.head_width),)
    return (
        Part(NeckInput.PROJECTED, slice(0, backbone.dim), backbone.dim, backbone.dim),
        Part(NeckInput.TRUNK, slice(backbone.dim, None), backbone.width, backbone.width),
    )
