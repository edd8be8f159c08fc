"""Types that every module shares.

Shape letters: B batch, D embedding, F trunk features, P identities (classes), K images each, Q queries, G gallery,
N rows of the manifest, W embedding of a model, T texts, A aspects.
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


ASPECT_INDEX = {aspect: index for index, aspect in enumerate(Aspect)}
"""The number that stands for an aspect in tensors."""


@dataclass(frozen=True)
class Encoded:
    """What an image tower makes of pictures: trunk ``features`` [B, F] and CLIP's ``projected`` embedding [B, D]."""

    features: Tensor
    projected: Tensor


@dataclass(frozen=True)
class Batch:
    """One training batch: ``labels`` [B] are class indices, ``rows`` [B] manifest rows, ``aspects`` [B] aspect indices.

    All three are int64; an aspect's index is that of ASPECT_INDEX. ``inputs`` are pictures [B, 3, H, W] as floats
    in [0, 1], or what the frozen image tower made of them before.
    """

    inputs: Tensor | Encoded
    labels: Tensor
    rows: Tensor
    aspects: Tensor

    def item(self, index: int) -> "Batch":
        """The batch of one that holds picture ``index`` alone."""
        one = slice(index, index + 1)
        return Batch(_part(self.inputs, one), self.labels[one], self.rows[one], self.aspects[one])


@dataclass(frozen=True)
class Texts:
    """Text embeddings [T, D], not normalised, and the class [T] int64 that each of them describes."""

    embedding: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Output:
    """What a model makes of a batch: the image tower's view, and what stands on it.

    ``encoded`` holds trunk features [B, F] and CLIP's embedding [B, D]; ``embedding`` [B, W] is what retrieval
    compares, before normalisation; ``logits`` [B, P] are those of the identity head, cosines before a margin loss.
    ``texts`` and ``aspect_logits`` [B, A] are there in models that have text prompts or an aspect classifier.
    """

    encoded: Encoded
    embedding: Tensor
    logits: Tensor
    texts: Texts | None = None
    aspect_logits: Tensor | None = None


def _part(inputs: Tensor | Encoded, part: slice) -> Tensor | Encoded:
    if isinstance(inputs, Encoded):
        return Encoded(features=inputs.features[part], projected=inputs.projected[part])
    return inputs[part]
