"""Which triplets of a batch a triplet loss is computed on.

Ours, because the miners of pytorch-metric-learning cannot be told of an anchor's own place in a memory, nor of the
empty ones; and its semi-hard miner looks at all triplets at once, which with a memory is gigabytes.
"""

from enum import StrEnum

import torch
from torch import Tensor

from handclip_core.losses.pairs import Pairs

Triplets = tuple[Tensor, Tensor, Tensor]
"""Anchor, positive reference and negative reference, [n] each."""


class Mining(StrEnum):
    """How triplets are chosen, and the distance that each choice was published with.

    ``hard``: each anchor's farthest positive and nearest negative, Euclidean distance of vectors of any length (Hermans
    2017, arXiv 1703.07737, eq. 5). ``semihard``: every triplet whose negative is farther than its positive by less than
    the margin, squared distance of unit vectors (Schroff 2015, arXiv 1503.03832, eq. 4).
    """

    HARD = "hard"
    SEMIHARD = "semihard"


def hardest(pairs: Pairs, distance: Tensor) -> Triplets:
    """One triplet for every complete anchor; ``distance`` [B, R] is that of the pairs."""
    anchor = torch.where(pairs.complete)[0]
    positive = distance.masked_fill(~pairs.positive, -torch.inf).argmax(dim=1)
    negative = distance.masked_fill(~pairs.negative, torch.inf).argmin(dim=1)
    return anchor, positive[anchor], negative[anchor]


def semi_hard(pairs: Pairs, distance: Tensor, *, margin: float) -> Triplets:
    """All triplets with d(a, p) < d(a, n) < d(a, p) + ``margin``; ``distance`` [B, R] is that of the pairs."""
    anchor, positive = torch.where(pairs.positive)
    excess = distance[anchor] - distance[anchor, positive][:, None]
    pair, negative = torch.where(pairs.negative[anchor] & (excess > 0) & (excess < margin))
    return anchor[pair], positive[pair], negative
