"""Cosine similarity in which equal pictures have equal similarities, whatever their place in the batch."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError

AnyArray = NDArray[np.generic]


def as_tensor(embeddings: AnyArray | Tensor) -> Tensor:
    """A detached tensor of floating-point embeddings [N, D]; raises InputError for another shape, NaN or infinity."""
    tensor = embeddings.detach() if isinstance(embeddings, Tensor) else torch.from_numpy(np.array(embeddings))
    if tensor.ndim != 2:
        raise InputError(f"embeddings have the shape {tuple(tensor.shape)}; they need two dimensions, [N, D]")
    if tensor.is_complex():
        raise InputError("embeddings are complex; they need to be real")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        row = int((~torch.isfinite(tensor)).any(dim=1).nonzero()[0])
        raise InputError(f"the embedding in row {row} is not finite (NaN or infinity): the model has diverged")
    return tensor


def normalised(embeddings: AnyArray | Tensor) -> Tensor:
    """Rows of [N, D] at length 1, in float64; raises InputError for a row of zeros, which points nowhere."""
    tensor = as_tensor(embeddings).double()
    largest = tensor.abs().amax(dim=1, keepdim=True) if tensor.shape[1] else tensor.new_zeros(len(tensor), 1)
    if len(tensor) and not bool((largest > 0).all()):
        row = int((largest[:, 0] <= 0).nonzero()[0])
        raise InputError(f"the embedding in row {row} is all zeros: its cosine with another is not defined")
    scaled = tensor / largest
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return unit


def cosine(queries: AnyArray | Tensor, gallery: AnyArray | Tensor) -> Tensor:
    """Cosine similarities [Q, G] in float32 of embeddings [Q, D] and [G, D], on the device of ``queries``.

    The products are summed in float64 and rounded once. A float32 product depends in its last digits on where a row
    lies in the matrix, so that two copies of a picture would differ by noise and be ranked by it.
    """
    return next(cosine_blocks(queries, gallery, rows=max(len(queries), 1)))[1]


def cosine_blocks(queries: AnyArray | Tensor, gallery: AnyArray | Tensor, *, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (first query, [rows, G] similarities) as :func:`cosine` does, holding one block at a time."""
    left, right = as_tensor(queries), as_tensor(gallery)
    if left.shape[1] != right.shape[1]:
        raise InputError(f"query embeddings have {left.shape[1]} dimensions, gallery embeddings {right.shape[1]}")
    unit = normalised(right.to(left.device))
    for start in range(0, max(len(left), 1), rows):
        yield start, (normalised(left[start : start + rows]) @ unit.T).float()
