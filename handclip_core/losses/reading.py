"""Which vector of a model's output a metric loss reads."""

from collections.abc import Callable
from enum import StrEnum

from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.numerics import at_least_float32
from handclip_core.types import Output


class ReadFrom(StrEnum):
    """A vector of the output: the embedding [B, W], the trunk's features [B, F], or CLIP's embedding [B, D]."""

    EMBEDDING = "embedding"
    TRUNK = "trunk"
    PROJECTED = "projected"


Read = Callable[[Output], Tensor]


def reader(source: ReadFrom, *, unit_length: bool = False) -> Read:
    """A function from an output to the vectors at ``source``, in float32 at least, scaled to length one if so asked."""

    def read(output: Output) -> Tensor:
        vectors = {
            ReadFrom.EMBEDDING: output.embedding,
            ReadFrom.TRUNK: output.encoded.features,
            ReadFrom.PROJECTED: output.encoded.projected,
        }
        chosen = at_least_float32(vectors[source])
        return F.normalize(chosen, dim=1) if unit_length else chosen

    return read
