"""Queries of one draw against its gallery, by indexing into embeddings that are computed once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.retrieval import BLOCK_ELEMENTS, RetrievalScores, scores_of_blocks
from handclip_core.evaluation.similarity import CosineBlock, Units, as_tensor

Ints = NDArray[np.int64]


class DrawScorer:
    """Embeddings of the rows of a manifest, normalised once and asked for each draw."""

    def __init__(self, embeddings: NDArray[Any] | Tensor, rows: Ids, identities: Ids) -> None:
        """Embeddings [N, D], the manifest row of each [N], and the identity of every manifest row.

        Raises InputError where the lengths differ or a row is given twice.
        """
        self._units = Units(as_tensor(embeddings).cpu())
        places = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows, dtype=np.int64)
        (self._codes,) = identity_codes(identities, names=("identities",))
        if places.shape != (len(self._units),):
            raise InputError(f"{len(self._units)} embeddings were given for {len(places)} manifest rows")
        if places.size and not 0 <= places.min() <= places.max() < len(self._codes):
            raise InputError(f"rows reach from {places.min()} to {places.max()}, identities to {len(self._codes) - 1}")
        self._place = np.full(len(self._codes), -1, dtype=np.int64)
        self._place[places] = np.arange(len(places))
        if np.count_nonzero(self._place >= 0) != len(places):
            raise InputError("a manifest row has more than one embedding")

    def identities(self, rows: Ints) -> Ints:
        """Codes [R] of the people on manifest rows [R]; raises InputError for a row without an embedding."""
        self._places(rows)
        return self._codes[rows]

    def exact(self, query: Ints, gallery: Ints) -> NDArray[np.float32]:
        """Exact cosines [Q, G] of manifest rows; raises InputError for a row without an embedding."""
        return CosineBlock.of(self._units, self._units, self._places(query), self._places(gallery)).exact()

    def blocks(self, query: Ints, gallery: Ints) -> Iterator[tuple[int, CosineBlock]]:
        """Yield (first query, cosines [q, G]) of manifest rows; raises InputError for a row without an embedding."""
        left, right = self._places(query), self._places(gallery)
        step = max(1, BLOCK_ELEMENTS // max(1, len(right)))
        for start in range(0, len(left), step):
            yield start, CosineBlock.of(self._units, self._units, left[start : start + step], right)

    def score(self, query: Ints, gallery: Ints, strangers: Ints, *, max_rank: int) -> RetrievalScores:
        """Scores of manifest rows ``query`` against ``gallery``, in which ``strangers`` stand too and match nobody."""
        blocks = self.blocks(query, np.concatenate([gallery, strangers]))
        nobody = np.full(len(strangers), len(self._codes), dtype=np.int64)
        gallery_codes = np.concatenate([self.identities(gallery), nobody])
        return scores_of_blocks(blocks, self.identities(query), gallery_codes, exclude=None, max_rank=max_rank)

    def _places(self, rows: Ints) -> Ints:
        known = np.where(rows < len(self._place), rows, 0)
        places = np.where(rows == known, self._place[known], -1)
        if places.size and places.min() < 0:
            raise InputError(f"the draws use manifest row {rows[int(np.argmin(places))]}, which has no embedding")
        return places
