"""Necks: what stands between the image tower and the identity head, and which vector is the embedding."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.types import Encoded


class NeckKind(StrEnum):
    """The neck's layer."""

    NONE = "none"
    BN = "bn"
    LINEAR = "linear"


class NeckInput(StrEnum):
    """What the neck reads: CLIP's projected embedding [B, D], the trunk's features [B, F], or both [B, D + F]."""

    PROJECTED = "projected"
    TRUNK = "trunk"
    BOTH = "both"


class EmbeddingAt(StrEnum):
    """Where the embedding is read: before or after the neck's layer."""

    BEFORE = "before"
    AFTER = "after"


class NeckSettings(Config):
    """Which neck a model has."""

    kind: NeckKind = NeckKind.NONE
    """``none``; ``bn``, a batch norm without shift (Luo 2019, arXiv 1903.07071); ``linear``, first the identity."""
    source: NeckInput = NeckInput.PROJECTED
    """What the neck reads."""
    embedding: EmbeddingAt = EmbeddingAt.AFTER
    """Where the embedding is read."""

    def width(self, *, features: int, projected: int) -> int:
        """Width of the neck's input and output."""
        widths = {NeckInput.PROJECTED: projected, NeckInput.TRUNK: features, NeckInput.BOTH: projected + features}
        return widths[self.source]

    def build(self, *, features: int, projected: int) -> "Neck":
        """A neck for a tower with ``features`` = F and ``projected`` = D."""
        return Neck(self, self.width(features=features, projected=projected))


@dataclass(frozen=True)
class NeckOutput:
    """The ``embedding`` [B, W] that retrieval compares and the input [B, W] of the identity head."""

    embedding: Tensor
    head_input: Tensor


class Neck(nn.Module):
    """A neck of width W; see NeckSettings."""

    def __init__(self, settings: NeckSettings, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.width = width
        self.layer = _layer(settings.kind, width)

    def forward(self, encoded: Encoded) -> NeckOutput:
        """Embedding and head input, each [B, W]."""
        before = self._read(encoded)
        after: Tensor = self.layer(before)
        return NeckOutput(embedding=after if self.settings.embedding is EmbeddingAt.AFTER else before, head_input=after)

    def _read(self, encoded: Encoded) -> Tensor:
        if self.settings.source is NeckInput.PROJECTED:
            return encoded.projected
        if self.settings.source is NeckInput.TRUNK:
            return encoded.features
        return torch.cat([encoded.projected, encoded.features], dim=1)


def _layer(kind: NeckKind, width: int) -> nn.Module:
    if kind is NeckKind.NONE:
        return nn.Identity()
    if kind is NeckKind.BN:
        norm = nn.BatchNorm1d(width)
        del norm.bias
        norm.register_buffer("bias", torch.zeros(width))
        return norm
    linear = nn.Linear(width, width, bias=False)
    nn.init.eye_(linear.weight)
    return linear
