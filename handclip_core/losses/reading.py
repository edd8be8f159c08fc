"""Which vector of a model's output a metric loss reads."""

from collections.abc import Callable
from enum import StrEnum

from torch import Tensor

from handclip_core.losses.numerics import at_least_float32
from handclip_core.types import Output


class ReadFrom(StrEnum):
    """A vector of the output: the embedding [B, W], the trunk's features [B, F], or CLIP's embedding [B, D]."""

    EMBEDDING = "embedding"
    TRUNK = "trunk"
    PROJECTED = "projected"


Read = Callable[[Output], Tensor]


def reader(source: ReadFrom) -> Read:
    """A function from an output to the vectors at ``source``, in float32 at least."""

    def read(output: Output) -> Tensor:
        vectors = {
            ReadFrom.EMBEDDING: output.embedding,
            ReadFrom.TRUNK: output.encoded.features,
            ReadFrom.PROJECTED: output.encoded.projected,
        }
        return at_least_float32(vectors[source])

    return read
