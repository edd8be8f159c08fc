"""Margin softmax losses on the cosines of a ``CosineHead``.

Ours, because pytorch-metric-learning keeps the class weights inside the loss, outside the optimiser and the
checkpoint.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.numerics import at_least_float32
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output

SMALLEST_SINE_SQUARED = 1e-12


def arcface(*, margin: float, scale: float, smoothing: float = 0.0) -> Loss:
    """Cross-entropy of ``scale`` * cos(theta + ``margin``) for the own class, ``scale`` * cos(theta) for the others.

    Deng 2019, arXiv 1801.07698, eq. 3; the margin is in radians. If theta + margin would pass pi, the own class has
    cos(theta) - margin * sin(margin), which goes on falling, as in the authors' code.
    """
    turn = math.cos(math.pi - margin)
    drop = margin * math.sin(margin)

    def with_margin(cosine: Tensor) -> Tensor:
        sine = (1 - cosine.square()).clamp(min=SMALLEST_SINE_SQUARED).sqrt()
        shifted = cosine * math.cos(margin) - sine * math.sin(margin)
        return shifted.where(cosine >= turn, cosine - drop)

    return _margin_softmax(with_margin, scale=scale, smoothing=smoothing)


def cosface(*, margin: float, scale: float, smoothing: float = 0.0) -> Loss:
    """Cross-entropy of ``scale`` * (cosine - ``margin``) for the own class, ``scale`` * cosine for the others.

    Wang 2018, arXiv 1801.09414, eq. 4.
    """
    return _margin_softmax(lambda cosine: cosine - margin, scale=scale, smoothing=smoothing)


def _margin_softmax(with_margin: Callable[[Tensor], Tensor], *, scale: float, smoothing: float) -> Loss:
    """Cross-entropy of scaled cosines [B, P] whose own-class entry has gone through ``with_margin``."""

    def loss(output: Output, batch: Batch) -> Tensor:
        cosines = at_least_float32(output.logits)
        own = batch.labels[:, None]
        logits = scale * cosines.scatter(1, own, with_margin(cosines.gather(1, own)))
        return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)

    return loss
