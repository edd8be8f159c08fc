"""Identity classification."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from handclip_core.types import Batch, Output


def cross_entropy(*, smoothing: float = 0.0) -> Callable[[Output, Batch], Tensor]:
    """Mean softmax cross-entropy of the logits [B, P], with label smoothing (Szegedy 2016, arXiv 1512.00567)."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits.float(), batch.labels, label_smoothing=smoothing)

    return loss
