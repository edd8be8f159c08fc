"""Queries of gallery_splits against their galleries, by indexing into cosines that are computed once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.retrieval import BLOCK_ELEMENTS, PerQuery, per_query, ranks_of_blocks
from handclip_core.evaluation.similarity import CosineBlock, Units, as_tensor

Ints = NDArray[np.int64]
Similarity = Callable[[Tensor, Tensor], Tensor]
"""From the embeddings of all queries [Q, D] and gallery entries [G, D] of a gallery split to similarities [Q, G]."""
TABLE_ELEMENTS = 1 << 25
"""Up to this many cosines (128 MiB) are computed at once for all gallery splits; beyond, those of one gallery split at
a time."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Manifest rows of queries [Q], of the gallery [G] in which they have matches, and of distractors beside it [S]."""

    query: Ints
    gallery: Ints
    distractors: Ints


class SplitScorer:
    """Embeddings of the rows of a manifest, normalised once and asked for each gallery split."""

    def __init__(
        self,
        embeddings: NDArray[Any] | Tensor,
        rows: Ids,
        identities: Ids,
        *,
        similarity: Similarity | None = None,
        unit: bool = True,
    ) -> None:
        """Embeddings [N, D], the manifest row of each [N], and the identity of every manifest row.

        ``similarity`` takes the place of the cosine; it sees vectors of length 1, or as they came without ``unit``.
        Raises InputError if lengths differ or a row is given twice.
        """
        self._units = Units(as_tensor(embeddings).cpu())
        self._similarity = similarity
        self._vectors = self._units.exact if unit else self._units.given
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
        """Codes [R] of the identities on manifest rows [R]; raises InputError for a row without an embedding."""
        self._places(rows)
        return self._codes[rows]

    def exact(self, query: Ints, gallery: Ints) -> NDArray[np.float32]:
        """Exact similarities [Q, G] of manifest rows; raises InputError for a row without an embedding."""
        if self._similarity is not None:
            left, right = (self._vectors(self._places(side)) for side in (query, gallery))
            return self._similarity(left, right).cpu().numpy()
        return CosineBlock.of(self._units, self._units, self._places(query), self._places(gallery)).exact()

    def score(self, gallery_splits: Sequence[Sides]) -> list[PerQuery]:
        """Scores of the queries of each gallery split; the cosines that the gallery splits share are computed once.

        Raises InputError, with the number of the gallery split, for a row without an embedding and if no query has a
        match.
        """
        table = self._table(gallery_splits)
        scores = []
        for number, sides in enumerate(gallery_splits):
            nobody = np.full(len(sides.distractors), len(self._codes), dtype=np.int64)
            try:
                blocks = self._blocks(sides, table)
                gallery_codes = np.concatenate([self.identities(sides.gallery), nobody])
                scores.append(per_query(ranks_of_blocks(blocks, self.identities(sides.query), gallery_codes)))
            except InputError as error:
                raise InputError(f"draw {number}: {error}") from None
        return scores

    def _table(self, gallery_splits: Sequence[Sides]) -> CosineBlock | None:
        """Cosines of all queries of the gallery splits with all their gallery entries, None if they are too many to
        keep.
        """
        queries = np.unique(np.concatenate([self._places(sides.query) for sides in gallery_splits]))
        entries = [self._places(rows) for sides in gallery_splits for rows in (sides.gallery, sides.distractors)]
        gallery = np.unique(np.concatenate(entries))
        if self._similarity is not None or len(queries) * len(gallery) > TABLE_ELEMENTS:
            return None
        return CosineBlock.of(self._units, self._units, queries, gallery)

    def _blocks(self, sides: Sides, table: CosineBlock | None) -> Iterator[tuple[int, CosineBlock | Tensor]]:
        """Yield (first query, similarities [q, G + S])."""
        left, right = self._places(sides.query), self._places(np.concatenate([sides.gallery, sides.distractors]))
        if self._similarity is not None:
            yield 0, self._similarity(self._vectors(left), self._vectors(right))
            return
        if table is not None:
            row, column = np.searchsorted(table.rows, left), np.searchsorted(table.columns, right)
            values = table.values.numpy().take(row[:, None] * len(table.columns) + column, mode="clip")
            yield 0, CosineBlock(self._units, self._units, left, right, torch.from_numpy(values), table.margin)
            return
        step = max(1, BLOCK_ELEMENTS // max(1, len(right)))
        for start in range(0, len(left), step):
            yield start, CosineBlock.of(self._units, self._units, left[start : start + step], right)

    def _places(self, rows: Ints) -> Ints:
        known = np.where(rows < len(self._place), rows, 0)
        places = np.where(rows == known, self._place[known], -1)
        if places.size and places.min() < 0:
            raise InputError(f"the draws use manifest row {rows[int(np.argmin(places))]}, which has no embedding")
        return places
