"""Types that every module shares.

Shape letters: B batch, D embedding, F trunk features, P identities (classes), K images each, Q queries, G gallery,
N rows of the manifest.
"""

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Aspect(StrEnum):
    """Which side of which hand a picture shows, in the words of the 11k Hands data set."""

    DORSAL_RIGHT = "dorsal right"
    DORSAL_LEFT = "dorsal left"
    PALMAR_RIGHT = "palmar right"
    PALMAR_LEFT = "palmar left"
    UNKNOWN = "unknown"


HAND_ASPECTS = (Aspect.DORSAL_RIGHT, Aspect.DORSAL_LEFT, Aspect.PALMAR_RIGHT, Aspect.PALMAR_LEFT)
"""The four aspects of 11k Hands in the published order."""


@dataclass(frozen=True)
class Encoded:
    """What an image tower makes of pictures: trunk ``features`` [B, F] and CLIP's ``projected`` embedding [B, D]."""

    features: Tensor
    projected: Tensor


@dataclass(frozen=True)
class Batch:
    """One training batch: ``labels`` [B] int64 are class indices, ``rows`` [B] int64 manifest rows.

    ``inputs`` are pictures [B, 3, H, W] as floats in [0, 1], or what the frozen image tower made of them before.
    """

    inputs: Tensor | Encoded
    labels: Tensor
    rows: Tensor

    def item(self, index: int) -> "Batch":
        """The batch of one that holds picture ``index`` alone."""
        one = slice(index, index + 1)
        return Batch(inputs=_part(self.inputs, one), labels=self.labels[one], rows=self.rows[one])


@dataclass(frozen=True)
class Output:
    """What a model makes of a batch: trunk features [B, F], embedding [B, D] before normalisation, logits [B, P]."""

    features: Tensor
    embedding: Tensor
    logits: Tensor


def _part(inputs: Tensor | Encoded, part: slice) -> Tensor | Encoded:
    if isinstance(inputs, Encoded):
        return Encoded(features=inputs.features[part], projected=inputs.projected[part])
    return inputs[part]
