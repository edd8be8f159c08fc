"""Types that every module shares.

Shape letters: B batch, D embedding, F trunk features, P identities (classes), K images each, Q queries, G gallery, N rows.
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
class Batch:
    """One training batch.

    Either ``pixels`` ([B, 3, H, W], float in [0, 1] before normalisation) or ``features`` ([B, F] cached trunk features
    and [B, D] ``projected``) is there. ``labels`` [B] int64 are class indices in the phase's label space, ``aspects`` [B]
    int64 positions in the phase's aspect order, ``rows`` [B] int64 manifest rows.
    """

    labels: Tensor
    aspects: Tensor
    rows: Tensor
    pixels: Tensor | None = None
    features: Tensor | None = None
    projected: Tensor | None = None


@dataclass(frozen=True)
class Output:
    """What a model makes of a batch: trunk features [B, F], embedding [B, D] before normalisation, logits [B, P]."""

    features: Tensor
    embedding: Tensor
    logits: Tensor
