"""Pairs of images: what the losses on pairs and triplets compare."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from handclip_core.losses.numerics import without_autocast
from handclip_core.losses.reading import Read
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output

Indices = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pairs:
    """Anchors [B, W] before references [R, W]; ``positive`` and ``negative`` [B, R] say what each pair is.

    A pair that is neither does not count: an anchor before itself, an empty place of a memory.
    """

    anchors: Tensor
    references: Tensor
    positive: Tensor
    negative: Tensor

    @property
    def complete(self) -> Tensor:
        """Which anchors [B] have a positive and a negative reference; the others take no part in a loss."""
        return self.positive.any(dim=1) & self.negative.any(dim=1)

    def indices(self) -> Indices:
        """Anchor and reference of every positive pair, then of every negative pair, each [n]."""
        anchor, positive = torch.where(self.positive)
        other, negative = torch.where(self.negative)
        return anchor, positive, other, negative

    def zero(self) -> Tensor:
        """A zero that depends on the anchors, for batches without a complete anchor."""
        return (self.anchors * 0).sum()


PairLoss = Callable[[Pairs], Tensor]
"""From pairs to a scalar."""


def pairs_of(vectors: Tensor, labels: Tensor) -> Pairs:
    """All ``vectors`` [B, W] before all others, of the same of ``labels`` [B] or not."""
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return Pairs(vectors, vectors, positive=same & ~itself, negative=~same)


def within_batch(loss: PairLoss, read: Read) -> Loss:
    """``loss`` on the pairs of each batch: all images before all others, same label or not."""

    def compare(output: Output, batch: Batch) -> Tensor:
        vectors = read(output)
        with without_autocast(vectors):
            return loss(pairs_of(vectors, batch.labels))

    return compare
