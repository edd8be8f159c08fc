"""Heads other than a linear layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.losses.numerics import at_least_float32, without_autocast

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
        return cosines(vectors, self.weight)


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


def cosines(vectors: Tensor, classes: Tensor) -> Tensor:
    """Cosines [B, P] of vectors [B, W] with one vector a class [P, W], in the precision of the latter."""
    with without_autocast(vectors):
        return F.linear(F.normalize(vectors.to(classes.dtype), dim=1), F.normalize(classes, dim=1))


def class_vectors(texts: Tensor, num_classes: int) -> Tensor:
    """A unit vector a class [P, D], float32 at least, from embeddings [P * T, D] of sentences, a class's together.

    It is the mean of their unit vectors, at unit length (Radford 2021, arXiv 2103.00020, section 3.1.4).
    """
    texts = at_least_float32(texts)
    with without_autocast(texts):
        units = F.normalize(texts, dim=1).view(num_classes, -1, texts.shape[1])
        return F.normalize(units.mean(dim=1), dim=1)
