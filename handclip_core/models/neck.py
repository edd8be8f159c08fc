"""Necks: what stands between the image tower and the identity head, and which vector is the embedding."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.types import Encoded


class NeckKind(StrEnum):
    """The neck's layer."""

    NONE = "none"
    BN = "bn"
    LINEAR = "linear"
    PROJECTION = "projection"


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
    """``none``; ``bn``, a batch norm without shift (Luo 2019, arXiv 1903.07071); ``linear``, a square map, at first the
    identity; ``projection``, a linear map to ``dim``, at first orthonormal."""
    dim: int = Field(512, ge=2, le=8192)
    """Width of the output of a ``projection``; the other kinds keep that of their input."""
    source: NeckInput = NeckInput.PROJECTED
    """What the neck reads."""
    embedding: EmbeddingAt = EmbeddingAt.AFTER
    """Where the embedding is read."""

    def build(self, *, features: int, projected: int) -> "Neck":
        """A neck for a tower with ``features`` = F and ``projected`` = D."""
        widths = {NeckInput.PROJECTED: projected, NeckInput.TRUNK: features, NeckInput.BOTH: projected + features}
        return Neck(self, widths[self.source])


@dataclass(frozen=True)
class NeckOutput:
    """The ``embedding`` [B, W] that retrieval compares and the input of the identity head, the layer's output."""

    embedding: Tensor
    head_input: Tensor


class Neck(nn.Module):
    """A neck; see NeckSettings. ``width`` is W, that of the embedding, ``head_width`` that of the head's input."""

    def __init__(self, settings: NeckSettings, input_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.head_width = settings.dim if settings.kind is NeckKind.PROJECTION else input_width
        self.width = self.head_width if settings.embedding is EmbeddingAt.AFTER else input_width
        self.layer = _layer(settings.kind, input_width, self.head_width)

    def forward(self, encoded: Encoded) -> NeckOutput:
        """Embedding [B, W] and head input."""
        before = self._read(encoded)
        after: Tensor = self.layer(before)
        return NeckOutput(embedding=after if self.settings.embedding is EmbeddingAt.AFTER else before, head_input=after)

    def _read(self, encoded: Encoded) -> Tensor:
        if self.settings.source is NeckInput.PROJECTED:
            return encoded.projected
        if self.settings.source is NeckInput.TRUNK:
            return encoded.features
        return torch.cat([encoded.projected, encoded.features], dim=1)


def _layer(kind: NeckKind, width: int, output: int) -> nn.Module:
    if kind is NeckKind.NONE:
        return nn.Identity()
    if kind is NeckKind.BN:
        norm = nn.BatchNorm1d(width)
        del norm.bias
        norm.register_buffer("bias", torch.zeros(width))
        return norm
    linear = nn.Linear(width, output, bias=False)
    init = nn.init.orthogonal_ if kind is NeckKind.PROJECTION else nn.init.eye_
    init(linear.weight)
    return linear
