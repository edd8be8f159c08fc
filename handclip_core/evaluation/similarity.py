"""Cosine similarity in which equal images have equal similarities, whatever their place in the batch."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError


class Distance(StrEnum):
    """What orders a gallery."""

    COSINE = "cosine"
    """The angle between embeddings, whatever their lengths."""
    EUCLIDEAN = "euclidean"
    """The distance between embeddings as they are, before they are brought to length 1: of unit vectors both give one
    order."""


AnyArray = NDArray[np.generic]
Ints = NDArray[np.int64]
PAIR_ELEMENTS = 1 << 21
"""Numbers of a temporary when pairs are computed one by one."""


def as_tensor(embeddings: AnyArray | Tensor) -> Tensor:
    """A detached tensor of embeddings [N, D]; raises InputError for another shape and for complex numbers."""
    tensor = embeddings.detach() if isinstance(embeddings, Tensor) else torch.from_numpy(np.array(embeddings))
    if tensor.ndim != 2:
        raise InputError(f"embeddings have the shape {tuple(tensor.shape)}; they need two dimensions, [N, D]")
    if tensor.is_complex():
        raise InputError("embeddings are complex; they need to be real")
    return tensor


def normalised(embeddings: AnyArray | Tensor) -> Tensor:
    """Rows of [N, D] at length 1, in float64; raises InputError for a row that is all zeros or not finite."""
    return _normalise(as_tensor(embeddings).to(torch.float64, copy=True))


def _normalise(rows: Tensor) -> Tensor:
    """Divide rows [N, D] by their length, in place; the largest entry goes first, so that no square overflows."""
    if not rows.numel():
        largest = rows.new_zeros(len(rows), 1)
    else:
        largest = torch.linalg.vector_norm(rows, ord=torch.inf, dim=1, keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        row = int((~torch.isfinite(largest[:, 0])).nonzero()[0])
        raise InputError(f"the embedding in row {row} is not finite (NaN or infinity): the model has diverged")
    if not bool((largest > 0).all()):
        row = int((largest[:, 0] <= 0).nonzero()[0])
        raise InputError(f"the embedding in row {row} is all zeros: its cosine with another is not defined")
    rows /= largest
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows


def cosine(queries: AnyArray | Tensor, gallery: AnyArray | Tensor) -> Tensor:
    """Cosine similarities [Q, G] in float32 of embeddings [Q, D] and [G, D], on the device of ``queries``.

    The products are summed in float64 and rounded once. A float32 product depends in its last digits on where a row
    lies in the matrix, so that two copies of an image would differ by noise and be ranked by it.
    """
    left, right = as_tensor(queries), as_tensor(gallery)
    check_dimensions(left, right)
    return (normalised(left) @ normalised(right.to(left.device)).T).float()


def euclidean(queries: AnyArray | Tensor, gallery: AnyArray | Tensor) -> Tensor:
    """Minus the Euclidean distances [Q, G], in float64, of embeddings [Q, D] and [G, D] as they are.

    Each from the differences themselves, so that equal images are equally far wherever they stand.
    """
    left, right = as_tensor(queries), as_tensor(gallery)
    check_dimensions(left, right)
    sides = left.double(), right.to(left.device).double()
    return -torch.cdist(*sides, compute_mode="donot_use_mm_for_euclid_dist")


def check_dimensions(left: Tensor, right: Tensor) -> None:
    """Raise InputError if embeddings [Q, D] and [G, D] differ in D."""
    if left.shape[1] != right.shape[1]:
        raise InputError(f"query embeddings have {left.shape[1]} dimensions, gallery embeddings {right.shape[1]}")


class Units:
    """Embeddings at length 1: all in float32, for fast products, and any of them in float64."""

    def __init__(self, embeddings: AnyArray | Tensor) -> None:
        """Normalise embeddings [N, D]; raises as :func:`normalised` does."""
        given = as_tensor(embeddings)
        narrow = given.dtype in (torch.float16, torch.bfloat16, torch.float32)
        self._given = given.to(torch.float32 if narrow else torch.float64)
        self.fast = _normalise(self._given.clone()).float()

    def __len__(self) -> int:
        return len(self._given)

    def exact(self, rows: Ints | None = None) -> Tensor:
        """Chosen rows [R], or all, in float64 [R, D]."""
        return normalised(self._given if rows is None else self._given[rows])

    def given(self, rows: Ints) -> Tensor:
        """Chosen rows as they came, in float64 [R, D]."""
        return self._given[rows].double()

    def exact_few(self, rows: Ints) -> NDArray[np.float64]:
        """As :meth:`exact` for few rows on a CPU: without threads, which take longer to wake than to work."""
        chosen = self._given.numpy()[rows].astype(np.float64)
        chosen /= np.abs(chosen).max(axis=1, keepdims=True)
        chosen /= np.sqrt(np.einsum("nd,nd->n", chosen, chosen))[:, None]
        return chosen


@dataclass(frozen=True, eq=False)
class CosineBlock:
    """Cosines between some queries [q] and a gallery [G], computed fast and made exact if that may matter.

    ``rows`` [q] and ``columns`` [G] are their places in ``left`` and ``right``. On a CPU ``values`` [q, G] are float32
    products, off by less than half of ``margin``; elsewhere, and if torch may round products further than to
    float32, they are those of :func:`cosine` and ``margin`` is 0.
    """

    left: Units
    right: Units
    rows: Ints
    columns: Ints
    values: Tensor
    margin: float

    @classmethod
    def of(
        cls,
        left: Units,
        right: Units,
        rows: Ints | None = None,
        columns: Ints | None = None,
        *,
        out: Tensor | None = None,
    ) -> "CosineBlock":
        """The block of the units ``rows`` of ``left`` and ``columns`` of ``right``, by default of all.

        Fast values are written to ``out`` [q, G], if that is given.
        """
        fast = left.fast.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
        if fast:
            queries = left.fast if rows is None else left.fast[rows]
            gallery = right.fast if columns is None else right.fast[columns]
        else:
            queries, gallery = left.exact(rows), right.exact(columns)
        return cls(
            left,
            right,
            np.arange(len(left)) if rows is None else rows,
            np.arange(len(right)) if columns is None else columns,
            torch.mm(queries, gallery.T, out=out if fast else None).float(),
            margin_of(left.fast.shape[1]) if fast else 0.0,
        )

    def exact(self) -> NDArray[np.float32]:
        """All cosines [q, G] as :func:`cosine` gives them."""
        return (self.left.exact(self.rows) @ self.right.exact(self.columns).T).float().cpu().numpy()

    def exact_pairs(self, row: Ints, column: Ints) -> NDArray[np.float32]:
        """Cosines [M] of single pairs of the block, equal to those of :meth:`exact` but for a rounding in float64."""
        found = np.empty(len(row), dtype=np.float32)
        step = max(1, PAIR_ELEMENTS // max(1, self.left.fast.shape[1]))
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            left, right = self.left.exact_few(self.rows[row[part]]), self.right.exact_few(self.columns[column[part]])
            found[part] = np.einsum("nd,nd->n", left, right)
        return found


def margin_of(dimensions: int) -> float:
    """Distance from which two float32 cosines of ``dimensions`` products are surely in order: ten times the error."""
    return 1e-5 * math.sqrt(max(1.0, dimensions / 512))
