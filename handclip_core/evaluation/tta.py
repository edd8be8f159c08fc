"""Test-time augmentation by the mirror image.

Off by default: a mirrored right hand looks like a left one, and the gallery of all aspects holds the same identity's
other hand as a distractor.
"""

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import as_tensor, normalised


def combine_flips(plain: NDArray[Any] | Tensor, mirrored: NDArray[Any] | Tensor, *, unit: bool = True) -> Tensor:
    """Embeddings [N, D], float32 and of length 1 if ``unit``, of images and their mirror images.

    The two are added, as the papers do: as they come, before normalisation. Raises InputError if the shapes differ or
    the two cancel out.
    """
    left, right = as_tensor(plain), as_tensor(mirrored)
    if left.shape != right.shape:
        raise InputError(f"embeddings are {list(left.shape)}, those of the mirror images {list(right.shape)}")
    added = left.double() + right.double()
    return (normalised(added) if unit else added).float()
