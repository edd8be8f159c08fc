"""Which side of which hand an image shows, as a classification."""

from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.numerics import at_least_float32
from handclip_core.losses.term import Loss
from handclip_core.types import ASPECT_INDEX, Aspect, Batch, Output


def aspect_cross_entropy() -> Loss:
    """Mean cross-entropy of ``aspect_logits`` [B, 5], whose columns are those of ASPECT_INDEX.

    Images of unknown aspect take no part.
    """
    unknown = ASPECT_INDEX[Aspect.UNKNOWN]

    def loss(output: Output, batch: Batch) -> Tensor:
        assert output.aspect_logits is not None, "the model has no aspect classifier"
        logits = at_least_float32(output.aspect_logits)
        known = batch.aspects != unknown
        if not known.any():
            return (logits * 0).sum()
        return F.cross_entropy(logits[known], batch.aspects[known])

    return loss
