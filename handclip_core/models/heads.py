"""Identity heads other than a linear layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASS_STD = 0.01


class CosineHead(nn.Module):
    """Cosines [B, P] of the neck's output [B, W] with one ``weight`` vector a class [P, W].

    What the margin losses read (Deng 2019, arXiv 1801.07698, section 2.1; Wang 2018, arXiv 1801.09414, eq. 3). The
    cosines are float32 under autocast too: a margin loss multiplies their rounding by its scale.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        nn.init.normal_(self.weight, std=CLASS_STD)

    def forward(self, vectors: Tensor) -> Tensor:
        """Cosines [B, P] in [-1, 1]."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = F.normalize(vectors.to(self.weight.dtype), dim=1)
            return F.linear(vectors, F.normalize(self.weight, dim=1))
