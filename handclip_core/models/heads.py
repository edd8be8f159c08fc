"""Heads other than a linear layer."""

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


class TextHead(CosineHead):
    """Cosines with one vector a class, multiplied by a fixed ``scale``; at first a text for each class.

    Then its logits are those of the zero-shot classifier (Radford 2021, arXiv 2103.00020, section 3.1.2). Fine-tuning
    that begins there keeps what CLIP knows of the classes (Wortsman 2022, arXiv 2109.01903).
    """

    def __init__(self, texts: Tensor, *, scale: float) -> None:
        """``texts`` [P, D] are text embeddings; ``scale`` is 1 over the temperature, or 1 for plain cosines."""
        super().__init__(texts.shape[1], len(texts))
        self.scale = scale
        with torch.no_grad():
            self.weight.copy_(F.normalize(texts.float(), dim=1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [B, P]."""
        return self.scale * super().forward(vectors)
