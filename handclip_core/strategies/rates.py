"""Learning rates of the image tower by its size."""

from enum import StrEnum

from handclip_core.engine.phase import Optim
from handclip_core.models.backbone import Backbone

REFERENCE_WEIGHTS = 86_192_640
"""Weights of the image tower of ViT-B/16, for which the published rates are."""
MOST_TIMES = 100.0
"""A rate grows by no more: towers of less than a hundredth of that size are for trying things out."""


class Rates(StrEnum):
    """What a rate of the image tower stands for.

    ``by_size``: the rate for a tower of ViT-B/16's size; one that has n times its weights gets an n-th of it.
    ``published``: the rate as it is, whatever the tower.
    """

    BY_SIZE = "by_size"
    PUBLISHED = "published"


def rate_for(backbone: Backbone, lr: float, rates: Rates) -> float:
    """The peak learning rate of the image tower of ``backbone``, at most 1."""
    if rates is Rates.PUBLISHED:
        return lr
    return min(1.0, lr * min(MOST_TIMES, REFERENCE_WEIGHTS / backbone.num_weights))


def optim_for(backbone: Backbone, optim: Optim, rates: Rates) -> Optim:
    """``optim`` with the rate of the image tower of ``backbone``."""
    return optim.model_copy(update={"lr": rate_for(backbone, optim.lr, rates)})
