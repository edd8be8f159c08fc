"""Losses on pairs and triplets with the formulas of pytorch-metric-learning, which is imported here alone.

It is imported by the functions that use it, because it brings half a second of scipy along. The library is told every
pair by its indices, and what it returns is averaged here over the anchors that have a positive and a negative: its own
averages leave out losses that round to zero, or count anchors without a pair.
"""

from typing import Any

import torch
from torch import Tensor

from handclip_core.losses.mining import Mining, hardest, semi_hard
from handclip_core.losses.pairs import PairLoss, Pairs


def triplet(*, margin: float, mining: Mining) -> PairLoss:
    """Mean of max(0, d(a, p) - d(a, n) + margin) over the mined triplets; see Mining for triplets and distance d."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.reducers import MeanReducer

    unit = mining is Mining.SEMIHARD
    distance = LpDistance(normalize_embeddings=unit, power=2 if unit else 1)
    library: Any = TripletMarginLoss(margin=margin, distance=distance, reducer=MeanReducer())

    def loss(pairs: Pairs) -> Tensor:
        with torch.no_grad():
            found = distance(pairs.anchors, pairs.references)
        triplets = semi_hard(pairs, found, margin=margin) if unit else hardest(pairs, found)
        value: Tensor = library(pairs.anchors, indices_tuple=triplets, ref_emb=pairs.references)
        return value

    return loss


def circle(*, margin: float, scale: float) -> PairLoss:
    """Circle loss on cosines with pair labels (Sun 2020, arXiv 2002.10857, eq. 6), mean over complete anchors."""
    from pytorch_metric_learning.losses import CircleLoss
    from pytorch_metric_learning.reducers import DoNothingReducer

    return _by_anchor(CircleLoss(m=margin, gamma=scale, reducer=DoNothingReducer()))


def supcon(*, temperature: float) -> PairLoss:
    """Supervised contrastive loss on cosines (Khosla 2020, arXiv 2004.11362, eq. 2), mean over complete anchors."""
    from pytorch_metric_learning.losses import SupConLoss
    from pytorch_metric_learning.reducers import DoNothingReducer

    return _by_anchor(SupConLoss(temperature=temperature, reducer=DoNothingReducer()))


def _by_anchor(library: Any) -> PairLoss:
    """Mean of the library's losses of the complete anchors; a zero if there is none."""

    def loss(pairs: Pairs) -> Tensor:
        found = library(pairs.anchors, indices_tuple=pairs.indices(), ref_emb=pairs.references)["loss"]["losses"]
        complete = pairs.complete
        if not isinstance(found, Tensor) or not complete.any():
            return pairs.zero()
        return found.flatten()[complete].mean()

    return loss
