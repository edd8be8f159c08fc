"""Identity classification."""

from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.numerics import at_least_float32
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output


def cross_entropy(*, smoothing: float = 0.0) -> Loss:
    """Mean softmax cross-entropy of the logits [B, P], with label smoothing (Szegedy 2016, arXiv 1512.00567)."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return F.cross_entropy(at_least_float32(output.logits), batch.labels, label_smoothing=smoothing)

    return loss
