"""Center loss: images are drawn towards the mean of their class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.losses.numerics import without_autocast
from handclip_core.losses.reading import Read
from handclip_core.types import Batch, Output


class CenterLoss(nn.Module):
    """Mean over the batch of 1/2 |x - c_y|^2 (Wen 2016, doi 10.1007/978-3-319-46478-7_31, eq. 2).

    The paper takes sums; this is a mean, as is the cross-entropy beside it, so that their ratio is the paper's.
    After each batch its classes' centres move by ``rate`` as in eq. 4; they are not differentiated. A class's centre
    starts at the mean of its first images. Every call moves the centres.
    """

    centres: Tensor
    seen: Tensor

    def __init__(self, read: Read, *, num_classes: int, width: int, rate: float) -> None:
        """``width`` is that of the vectors that ``read`` gives."""
        super().__init__()
        self._read, self._rate = read, rate
        self.register_buffer("centres", torch.zeros(num_classes, width))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """The loss before this batch moves the centres, a scalar."""
        vectors = self._read(output)
        with without_autocast(vectors):
            centres = self._advance(vectors.detach().to(self.centres.dtype), batch.labels)
            return 0.5 * (vectors - centres[batch.labels]).square().sum(dim=1).mean()

    def _advance(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Move the centres on; returns those [P, W] that the batch is compared with."""
        members = F.one_hot(labels, len(self.centres)).to(vectors.dtype)
        count, total = members.sum(dim=0)[:, None], members.T @ vectors
        first = (count > 0) & ~self.seen[:, None]
        compared = torch.where(first, total / count.clamp(min=1), self.centres)
        self.centres = compared - self._rate * (count * compared - total) / (1 + count)
        self.seen = self.seen | (count[:, 0] > 0)
        return compared
