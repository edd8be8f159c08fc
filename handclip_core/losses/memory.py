"""Memory across batches: images of earlier steps as further references of pair losses."""

import torch
from torch import Tensor, nn

from handclip_core.losses.numerics import without_autocast
from handclip_core.losses.pairs import PairLoss, Pairs
from handclip_core.losses.reading import Read
from handclip_core.types import Batch, Output

EMPTY = -1


class CrossBatchMemory(nn.Module):
    """``loss`` with each batch's images before the last ``size`` images (XBM: Wang 2020, arXiv 1912.06798).

    As in its algorithm 1 a batch enters the memory, without gradients, before it is compared with it, so that the
    gradient reaches an image as anchor alone; no image is compared with itself. The memory is used from the first
    step: a pretrained tower drifts slowly from the start. Ours, because pytorch-metric-learning keeps the position
    outside of its buffers, so that a resumed run would go on differently, and cannot take batches above ``size``.

    Every call moves the memory along. All shapes are static, so that a state dict of any step loads into a fresh one.
    """

    vectors: Tensor
    labels: Tensor
    position: Tensor

    def __init__(self, loss: PairLoss, read: Read, *, size: int, width: int) -> None:
        """``width`` is that of the vectors that ``read`` gives."""
        super().__init__()
        self._loss, self._read = loss, read
        self.register_buffer("vectors", torch.zeros(size, width))
        self.register_buffer("labels", torch.full((size,), EMPTY))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """The loss, a scalar."""
        anchors = self._read(output)
        own = self._remember(anchors.detach(), batch.labels)
        same = batch.labels[:, None] == self.labels[None, :]
        filled = (self.labels != EMPTY)[None, :]
        itself = own[:, None] == torch.arange(len(self.labels), device=own.device)[None, :]
        with without_autocast(anchors):
            return self._loss(Pairs(anchors, self.vectors, positive=same & ~itself, negative=~same & filled))

    def _remember(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Put vectors [B, W] in the oldest places; returns the place of each [B], -1 for those that do not fit."""
        size, count = len(self.labels), len(labels)
        kept = min(size, count)
        places = (self.position + torch.arange(count, device=labels.device)) % size
        last = places[count - kept :]
        self.vectors = self.vectors.index_copy(0, last, vectors[count - kept :].to(self.vectors.dtype))
        self.labels = self.labels.index_copy(0, last, labels[count - kept :])
        self.position = (self.position + count) % size
        return torch.cat([places.new_full((count - kept,), -1), last])
