"""InfoNCE. Its sibling, the supervised contrastive loss, is the library's: see ``metric``."""

import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.pairs import PairLoss, Pairs


def infonce(*, temperature: float | Tensor) -> PairLoss:
    """Mean over positive pairs of -log(e^s(a, p) / (e^s(a, p) + sum_n e^s(a, n))), s cosine over ``temperature``.

    Van den Oord 2018, arXiv 1807.03748, eq. 4, with every other image of the class as a positive in turn. Ours,
    because pytorch-metric-learning's NTXentLoss holds a matrix of all positive pairs by all negative pairs, gigabytes
    with a memory, and its gradient vanishes for pairs so hard that the exponential underflows. Anchors without a
    negative take no part.
    """

    def loss(pairs: Pairs) -> Tensor:
        counted = pairs.positive & pairs.complete[:, None]
        if not counted.any():
            return pairs.zero()
        similarity = F.normalize(pairs.anchors, dim=1) @ F.normalize(pairs.references, dim=1).T / temperature
        lowest = torch.finfo(similarity.dtype).min
        negatives = similarity.masked_fill(~pairs.negative, lowest).logsumexp(dim=1, keepdim=True)
        return F.softplus(negatives - similarity)[counted].mean()

    return loss
