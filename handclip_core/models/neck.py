"""Necks: what stands between the image tower and the identity head, and which vector is the embedding."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.models.backbone import Backbone
from handclip_core.models.metric import MetricSettings
from handclip_core.models.readout import Readout, ReadoutSettings
from handclip_core.types import Encoded


class NeckKind(StrEnum):
    """The neck's layer."""

    NONE = "none"
    BN = "bn"
    LINEAR = "linear"
    PROJECTION = "projection"


class NeckInput(StrEnum):
    """What the neck reads: CLIP's projected embedding [B, D], the trunk's features [B, F], or both [B, D + F].

    ``blocks`` [B, R] are outputs of blocks inside the tower, ``all`` [B, D + F + R] stands beside one another.
    """

    PROJECTED = "projected"
    TRUNK = "trunk"
    BOTH = "both"
    BLOCKS = "blocks"
    ALL = "all"


READS_PROJECTED = (NeckInput.PROJECTED, NeckInput.BOTH, NeckInput.ALL)
READS_TRUNK = (NeckInput.TRUNK, NeckInput.BOTH, NeckInput.ALL)
READS_BLOCKS = (NeckInput.BLOCKS, NeckInput.ALL)


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
    readout: ReadoutSettings = ReadoutSettings()
    """Which blocks a neck with ``source: blocks`` or ``all`` reads, and how they are pooled."""
    embedding: EmbeddingAt = EmbeddingAt.AFTER
    """Where the embedding is read."""
    metric: MetricSettings = MetricSettings()
    """What is fitted in closed form on top of the embedding, for retrieval alone: losses read what comes before."""

    def build(self, backbone: Backbone) -> "Neck":
        """A neck for the image tower of ``backbone``."""
        vectors = {
            name: width
            for name, width, sources in (
                ("projected", backbone.dim, READS_PROJECTED),
                ("trunk", backbone.width, READS_TRUNK),
            )
            if self.source in sources
        }
        readout = backbone.readout(self.readout) if self.source in READS_BLOCKS else None
        if readout:
            vectors |= dict(zip(readout.names, readout.widths, strict=True))
        return Neck(self, vectors, readout)


@dataclass(frozen=True)
class NeckOutput:
    """The ``embedding`` [B, W] that retrieval compares and the input of the identity head, the layer's output."""

    embedding: Tensor
    head_input: Tensor


class Neck(nn.Module):
    """A neck; see NeckSettings. ``width`` is W, that of the embedding, ``head_width`` that of the head's input.

    ``readout`` is what it wants read inside of the tower, ``vectors`` are those that its embedding is made of, by name,
    with their widths: one, unless it reads several and does not mix them.
    """

    def __init__(self, settings: NeckSettings, inputs: dict[str, int], readout: Readout | None = None) -> None:
        super().__init__()
        self.settings, self.readout = settings, readout
        input_width = sum(inputs.values())
        self.head_width = settings.dim if settings.kind is NeckKind.PROJECTION else input_width
        self.width = self.head_width if settings.embedding is EmbeddingAt.AFTER else input_width
        self.layer = _layer(settings.kind, input_width, self.head_width)
        mixed = settings.kind in (NeckKind.LINEAR, NeckKind.PROJECTION) and settings.embedding is EmbeddingAt.AFTER
        self.vectors = {f"neck, {settings.kind}": self.width} if mixed else inputs

    @property
    def vector_widths(self) -> tuple[int, ...]:
        """The widths of ``vectors``."""
        return tuple(self.vectors.values())

    @property
    def begins_as_projected(self) -> bool:
        """Whether the head's input is at first CLIP's projected embedding, which texts can be compared with."""
        settings = self.settings
        return settings.source is NeckInput.PROJECTED and settings.kind in (NeckKind.NONE, NeckKind.LINEAR)

    def forward(self, encoded: Encoded) -> NeckOutput:
        """Embedding [B, W] and head input."""
        before = self._read(encoded)
        after: Tensor = self.layer(before)
        return NeckOutput(embedding=after if self.settings.embedding is EmbeddingAt.AFTER else before, head_input=after)

    def _read(self, encoded: Encoded) -> Tensor:
        source = self.settings.source
        read = [encoded.projected] if source in READS_PROJECTED else []
        read += [encoded.features] if source in READS_TRUNK else []
        if source in READS_BLOCKS:
            assert encoded.readout is not None, "a model's trunk reads what its neck wants"
            read.append(encoded.readout)
        return torch.cat(read, dim=1) if len(read) > 1 else read[0]


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
