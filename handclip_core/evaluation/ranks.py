"""At which rank each match of each query stands: the one computation behind AP, CMC, mINP and NDCG.

The ranking is never written out: the rank of a match is one more than the number of gallery entries that stand before
it, so counting does what sorting would. **Ties:** entries of other identities that are as similar as a match rank
before it (the worst order). Ranks therefore depend on the similarities alone, never on the order of the input, and an
embedding that collapses to a point scores lowest, not highest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import CosineBlock

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
SORT_FROM = 24
"""Matches a query from which sorting its row once is cheaper than counting it through for each match."""
FEW_OF = 8
"""One in so many entries of a row are cheaper to take out and sort than the whole row is to count through."""
WIDE = 4096
"""Gallery size from which rows are counted one by one: a temporary of several would leave the processor's cache."""
DENSE = 16
"""If one in so many entries is near a match, all are computed exactly at once."""
PART = 1 << 20
"""Elements of a temporary on the CPU."""
PART_ON_DEVICE = 1 << 27
"""Elements of a temporary on a GPU."""


@dataclass(frozen=True, eq=False)
class MatchRanks:
    """Ranks of all matches, by query and then from the most similar match to the least.

    ``query`` [M] is the query of each match, ``rank`` [M] its rank from 1, ``order`` [M] its place among the matches of
    its query from 1, ``num_matches`` [Q] how many matches each query has.
    """

    query: Ints
    rank: Ints
    order: Ints
    num_matches: Ints


class Matcher:
    """Which gallery entries show the identity of a query; built once, asked block by block."""

    def __init__(self, query_codes: Ints, gallery_codes: Ints) -> None:
        """Codes [Q] and [G] as :func:`~handclip_core.evaluation.identities.identity_codes` gives them."""
        size = int(max(query_codes.max(initial=-1), gallery_codes.max(initial=-1))) + 1
        self._codes = query_codes
        self._order = np.argsort(gallery_codes, kind="stable")
        self._count = np.bincount(gallery_codes, minlength=size)
        self._start = np.cumsum(self._count) - self._count

    def pairs(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """(row [M] from 0, column [M]) of all matches of the queries from ``start`` to before ``stop``."""
        codes = self._codes[start:stop]
        counts = self._count[codes]
        row = np.repeat(np.arange(len(codes)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, self._order[self._start[codes][row] + within]


def match_ranks(
    block: Floats | Tensor,
    row: Ints,
    column: Ints,
    exclude: Bools | None = None,
    *,
    cosines: CosineBlock | None = None,
) -> MatchRanks:
    """Ranks of the matches (``row`` [M], ``column`` [M]) in ``block`` [q, G] without the pairs of ``exclude`` [q, G].

    If ``block`` are the fast values of ``cosines`` they are made exact, in place, if the order depends on it. Raises
    InputError if a similarity that counts is NaN.
    """
    if exclude is not None:
        kept = ~exclude[row, column]
        row, column = row[kept], column[kept]
    counted = _hide(block, exclude, finite=cosines is not None)
    if isinstance(counted, Tensor):
        values: Floats = counted[_index(row, counted), _index(column, counted)].cpu().numpy()
    else:
        if cosines is not None and cosines.margin:
            counted = _sharpened(counted, row, column, cosines)
        values = counted[row, column]
    order = np.lexsort((-values, row))
    row, values = row[order], values[order]
    at_least = _count_tensor(counted, row, values) if isinstance(counted, Tensor) else _count(counted, row, values)
    return _ranks(row, values, at_least, len(block))


def _ranks(row: Ints, values: Floats, at_least: Ints, num_queries: int) -> MatchRanks:
    """Ranks from the number of entries at least as similar as each match; matches by query and falling similarity."""
    num_matches = np.bincount(row, minlength=num_queries)
    first = (np.cumsum(num_matches) - num_matches)[row]
    order = np.arange(len(row)) - first + 1
    ends_run = np.ones(len(row), dtype=np.bool_)
    ends_run[:-1] = (row[1:] != row[:-1]) | (values[1:] != values[:-1])
    run: Ints = np.cumsum(ends_run) - ends_run
    matches_at_least = np.flatnonzero(ends_run)[run] - first + 1
    return MatchRanks(row, at_least - matches_at_least + order, order, num_matches)


def _sharpened(block: Floats, row: Ints, column: Ints, cosines: CosineBlock) -> Floats:
    """The block with exact cosines for each match and what is too near to it to be told apart by fast ones."""
    values = block[row, column]
    order = np.lexsort((-values, row))
    row, low, high = row[order], values[order] - cosines.margin, values[order] + cosines.margin
    num_near, rows, columns = 0, list[Ints](), list[Ints]()
    mask = np.empty(block.shape[1], dtype=np.bool_)
    for index, (start, stop) in enumerate(_slices(row, len(block))):
        if start == stop:
            continue
        reached = np.flatnonzero(np.greater_equal(block[index], low[stop - 1], out=mask))
        found = block[index].take(reached)
        ordered = np.sort(found)
        near = np.searchsorted(ordered, high[start:stop], side="right") - np.searchsorted(ordered, low[start:stop])
        num_near += int(near.sum())
        for one in (start + np.flatnonzero(near > 1)).tolist():
            columns.append(reached[(found >= low[one]) & (found <= high[one])])
            rows.append(np.full(len(columns[-1]), index))
        if num_near > len(row) + block.size // DENSE:
            exact = cosines.exact()
            return exact if not np.isnan(block).any() else np.where(np.isnan(block), np.nan, exact).astype(np.float32)
    if rows:
        # In place: they are what the block's values stand for.
        chosen = np.concatenate(rows), np.concatenate(columns)
        block[chosen] = cosines.exact_pairs(*chosen)
    return block


def _hide(block: Floats | Tensor, exclude: Bools | None, *, finite: bool) -> Floats | Tensor:
    """The block with NaN, which no comparison counts, at what is excluded; raises InputError for a NaN of its own."""
    if finite and exclude is None:
        return block
    if isinstance(block, Tensor):
        mask = None if exclude is None else torch.from_numpy(np.ascontiguousarray(exclude)).to(block.device)
        has_nan = bool(torch.isnan(block if mask is None else block.masked_fill(mask, 0)).any())
        hidden: Floats | Tensor = block if mask is None else block.masked_fill(mask, torch.nan)
    else:
        has_nan = bool(np.isnan(np.min(block if exclude is None else np.where(exclude, 0, block))))
        hidden = block if exclude is None else np.where(exclude, np.nan, block).astype(block.dtype, copy=False)
    if has_nan:
        raise InputError("a similarity is NaN: it has no rank; look for embeddings that are zero or not finite")
    return hidden


def _count(block: Floats, row: Ints, values: Floats) -> Ints:
    """How many entries of its row are at least ``values`` [M]; matches come by ``row`` [M] and falling value."""
    counts = np.empty(len(row), dtype=np.int64)
    if block.shape[1] > WIDE or len(row) > SORT_FROM * len(block):
        mask = np.empty(block.shape[1], dtype=np.bool_)
        for index, (start, stop) in enumerate(_slices(row, len(block))):
            if start < stop:
                counts[start:stop] = _count_row(block[index], values[start:stop], mask)
        return counts
    step = max(1, PART // block.shape[1])
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        above = _rows(block, row[part]) >= values[part, None]
        counts[part] = above.view(np.uint8).sum(axis=1, dtype=np.uint32)
    return counts


def _rows(block: Floats, row: Ints) -> Floats:
    """Rows [M] of the block, rising; not copied if there is one match a query."""
    first, last = int(row[0]), int(row[-1])
    return block[first : last + 1] if last - first + 1 == len(row) and (np.diff(row) == 1).all() else block[row]


def _slices(row: Ints, num_rows: int) -> Iterator[tuple[int, int]]:
    """Where in ``row`` [M], rising, each of the rows begins and ends."""
    return pairwise(np.searchsorted(row, np.arange(num_rows + 1)).tolist())


def _count_row(row: Floats, values: Floats, mask: Bools) -> Ints | int | list[int]:
    """As :func:`_count` for one row [G], using ``mask`` [G] for comparisons.

    Of many matches, or if few entries reach the lowest, these entries are sorted; else each match is compared with all.
    """
    np.greater_equal(row, values[-1], out=mask)
    if len(values) == 1:
        return int(np.count_nonzero(mask))
    reached = np.flatnonzero(mask)
    if len(values) <= SORT_FROM and len(reached) * FEW_OF >= len(row):
        return [int(np.count_nonzero(np.greater_equal(row, value, out=mask))) for value in values]
    return len(reached) - np.searchsorted(np.sort(row.take(reached)), values)


def _count_tensor(block: Tensor, row: Ints, values: Floats) -> Ints:
    """As :func:`_count`, on the block's device."""
    rows, thresholds = _index(row, block), torch.from_numpy(values).to(block.device)
    step = max(1, PART_ON_DEVICE // block.shape[1])
    counts = [
        (block[rows[start : start + step]] >= thresholds[start : start + step, None]).sum(dim=1)
        for start in range(0, len(row), step)
    ]
    return torch.cat(counts).cpu().numpy() if counts else np.zeros(0, dtype=np.int64)


def _index(positions: Ints, like: Tensor) -> Tensor:
    return torch.from_numpy(positions).to(like.device)
