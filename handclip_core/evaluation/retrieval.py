"""Retrieval scores: average precision in both definitions in use, mINP, CMC, Recall@K and NDCG@K.

Ties and ranks are defined in :mod:`handclip_core.evaluation.ranks`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.ranks import Bools, Floats, Ints, Matcher, MatchRanks, match_ranks
from handclip_core.evaluation.similarity import CosineBlock, Units, as_tensor, check_dimensions

Curve = NDArray[np.float64]
Blocks = Iterable[tuple[int, Floats | Tensor | CosineBlock]]
BLOCK_ELEMENTS = 1 << 24
"""Cosines computed at a time: 64 MiB in float32."""
CACHED_ELEMENTS = 1 << 20
"""Given similarities looked at at a time: 4 MiB in float32 stay in a processor's cache from check to count."""


@dataclass(frozen=True, eq=False)
class PerQuery:
    """Scores of single queries [Q], as `RetrievalScores` defines them."""

    ap: Curve
    ap_trapezoid: Curve
    inp: Curve
    first_rank: Ints


@dataclass(frozen=True, eq=False)
class RetrievalScores:
    """Scores of one query set against one gallery; means are over the queries that have a match.

    ``map``: mean of AP = 1/m sum_j j / rank_j over the m matches of a query. ``map_trapezoid``: the area under its
    precision-recall curve by the trapezoid rule, as the published hand tables compute it. ``minp``: mean of m / rank_m
    (Ye 2021, arXiv 2001.04193). ``cmc`` [K]: share of queries with a match among the first k + 1. ``recall`` [K]: mean
    share of a query's matches among the first k + 1. ``ndcg`` [K]: with gain 1 / log2(1 + rank). Past the size of the
    gallery the curves stay at their last value.

    ``ap``, ``ap_trapezoid``, ``inp`` [Q] are one value a query, NaN if a query has no match, ``first_rank`` [Q] the
    rank of the best match, 0 if there is none. ``num_unmatched`` of ``num_queries`` have none.
    """

    map: float
    map_trapezoid: float
    minp: float
    cmc: Curve
    ap: Curve
    ap_trapezoid: Curve
    inp: Curve
    recall: Curve
    ndcg: Curve
    first_rank: Ints
    num_queries: int
    num_unmatched: int


def retrieval_scores(
    similarity: NDArray[Any] | Tensor,
    query_ids: Ids,
    gallery_ids: Ids,
    *,
    exclude: NDArray[Any] | Tensor | None = None,
    max_rank: int = 50,
) -> RetrievalScores:
    """Scores of ``similarity`` [Q, G] (larger is more alike) between queries and gallery of the given identities.

    ``similarity`` may be of any real type, hold ``-inf``, and lie on a GPU; identities [Q] and [G] are integers or
    texts. Pairs where ``exclude`` [Q, G] is true take no part (for instance the same identity on the same camera).
    Raises InputError for NaN, shapes that do not fit, an empty side, or if no query at all has a match.
    """
    if similarity.ndim != 2:
        raise InputError(f"similarity has the shape {tuple(similarity.shape)}; it needs two dimensions, [Q, G]")
    codes = identity_codes(query_ids, gallery_ids, names=("query_ids", "gallery_ids"))
    expected = (len(codes[0]), len(codes[1]))
    if tuple(similarity.shape) != expected:
        raise InputError(
            f"similarity is {list(similarity.shape)}, but there are {expected[0]} query and {expected[1]} gallery ids"
        )
    return scores_of_ranks(ranks_of_blocks(_blocks(similarity), *codes, exclude=exclude), max_rank=max_rank)


def embedding_scores(
    query_embeddings: NDArray[Any] | Tensor,
    gallery_embeddings: NDArray[Any] | Tensor,
    query_ids: Ids,
    gallery_ids: Ids,
    *,
    exclude: NDArray[Any] | Tensor | None = None,
    max_rank: int = 50,
) -> RetrievalScores:
    """As :func:`retrieval_scores` for the cosine of embeddings [Q, D] and [G, D], without the whole matrix in memory.

    Beside its input it holds the gallery in float32 and some hundred MiB, whatever Q is. Raises InputError also for
    rows that are zero or not finite.
    """
    codes = identity_codes(query_ids, gallery_ids, names=("query_ids", "gallery_ids"))
    expected = (len(codes[0]), len(codes[1]))
    if (len(query_embeddings), len(gallery_embeddings)) != expected:
        given = f"{len(query_embeddings)} query and {len(gallery_embeddings)} gallery embeddings"
        raise InputError(f"{given}, but {expected[0]} query and {expected[1]} gallery ids")
    rows = max(1, BLOCK_ELEMENTS // max(1, expected[1]))
    blocks = cosine_blocks(query_embeddings, gallery_embeddings, rows=rows)
    return scores_of_ranks(ranks_of_blocks(blocks, *codes, exclude=exclude), max_rank=max_rank)


def cosine_blocks(
    queries: NDArray[Any] | Tensor, gallery: NDArray[Any] | Tensor, *, rows: int
) -> Iterator[tuple[int, CosineBlock]]:
    """Yield (first query, cosines of up to ``rows`` queries with the whole gallery), one block at a time.

    A block is to be used before the next is taken, which has its place in memory.
    """
    left, right = as_tensor(queries), as_tensor(gallery)
    check_dimensions(left, right)
    units = Units(right.to(left.device))
    # Memory that the system has to give anew would take a sixth of the product's time.
    values = torch.empty(min(rows, len(left)), len(right), dtype=torch.float32, device=left.device)
    for start in range(0, len(left), rows):
        some = Units(left[start : start + rows])
        yield start, CosineBlock.of(some, units, out=values[: len(some)])


def ranks_of_blocks(
    blocks: Blocks, query_codes: Ints, gallery_codes: Ints, *, exclude: NDArray[Any] | Tensor | None = None
) -> MatchRanks:
    """Ranks of all matches in similarities that come as (first query, block [q, G]).

    Raises InputError for an empty side, NaN, or if no query has a match.
    """
    if not len(query_codes):
        raise InputError("there are no queries")
    if not len(gallery_codes):
        raise InputError("the gallery is empty")
    mask = None if exclude is None else _mask(exclude, (len(query_codes), len(gallery_codes)))
    matcher = Matcher(query_codes, gallery_codes)
    parts = []
    for start, given in blocks:
        cosines = given if isinstance(given, CosineBlock) else None
        block = _plain(given.values if isinstance(given, CosineBlock) else given)
        stop = start + len(block)
        part = None if mask is None else mask[start:stop]
        parts.append((start, match_ranks(block, *matcher.pairs(start, stop), part, cosines=cosines)))
    ranks = _joined(parts)
    if not ranks.num_matches.any():
        raise InputError(
            f"none of the {len(query_codes)} queries has a match in the gallery: check the identities, "
            "and that 'exclude' does not take out every match"
        )
    return ranks


def per_query(ranks: MatchRanks) -> PerQuery:
    """Scores of each query from the ranks of its matches."""
    query, rank, order, num_matches = ranks.query, ranks.rank, ranks.order, ranks.num_matches
    matched = num_matches > 0
    precision = order / rank
    before = np.where(rank > 1, (order - 1) / np.maximum(rank - 1, 1), 1.0)
    ends = np.cumsum(num_matches)[matched]
    inp, first_rank = np.full(len(num_matches), np.nan), np.zeros(len(num_matches), dtype=np.int64)
    inp[matched] = precision[ends - 1]
    first_rank[matched] = rank[ends - num_matches[matched]]
    return PerQuery(
        ap=_mean_by_query(precision, query, num_matches),
        ap_trapezoid=_mean_by_query((before + precision) / 2, query, num_matches),
        inp=inp,
        first_rank=first_rank,
    )


def scores_of_ranks(ranks: MatchRanks, *, max_rank: int) -> RetrievalScores:
    """Scores from the ranks of all matches, with curves up to ``max_rank``."""
    if max_rank < 1:
        raise InputError(f"max_rank is {max_rank}; it needs to be at least 1")
    single = per_query(ranks)
    matched = ranks.num_matches > 0
    num_matched = int(matched.sum())
    return RetrievalScores(
        map=exact_mean(single.ap[matched]),
        map_trapezoid=exact_mean(single.ap_trapezoid[matched]),
        minp=exact_mean(single.inp[matched]),
        cmc=_cumulated(single.first_rank[matched], np.ones(num_matched), max_rank) / num_matched,
        ap=single.ap,
        ap_trapezoid=single.ap_trapezoid,
        inp=single.inp,
        recall=_cumulated(ranks.rank, 1 / ranks.num_matches[ranks.query], max_rank) / num_matched,
        ndcg=_ndcg(ranks, max_rank),
        first_rank=single.first_rank,
        num_queries=len(matched),
        num_unmatched=len(matched) - num_matched,
    )


def exact_mean(values: Curve) -> float:
    """Mean of [N], summed without rounding, so that the order of the values cannot change it."""
    return math.fsum(values.tolist()) / len(values)


def _blocks(similarity: NDArray[Any] | Tensor) -> Iterator[tuple[int, NDArray[Any] | Tensor]]:
    elements = BLOCK_ELEMENTS if isinstance(similarity, Tensor) and similarity.is_cuda else CACHED_ELEMENTS
    rows = max(1, elements // max(1, similarity.shape[1]))
    for start in range(0, len(similarity), rows):
        yield start, similarity[start : start + rows]


def _plain(block: NDArray[Any] | Tensor) -> Floats | Tensor:
    """A block as float32 or float64, both of which hold every value of the narrower types; numpy unless on a GPU."""
    if isinstance(block, Tensor):
        block = block.detach()
        if not block.is_floating_point() and not block.is_complex():
            block = block.double()
        elif block.dtype not in (torch.float32, torch.float64) and not block.is_complex():
            block = block.float()
        if block.device.type != "cpu":
            return block
        block = block.resolve_neg().numpy()
    if block.dtype.kind not in "fiub":
        raise InputError(f"similarity is of type {block.dtype}; it needs real numbers")
    wide = block.dtype.kind != "f" or block.dtype.itemsize > 4
    return np.ascontiguousarray(block, dtype=np.float64 if wide else np.float32)


def _mask(exclude: NDArray[Any] | Tensor, shape: tuple[int, int]) -> Bools:
    array = exclude.detach().cpu().numpy() if isinstance(exclude, Tensor) else np.asarray(exclude)
    if array.dtype != np.bool_:
        raise InputError(f"exclude is of type {array.dtype}; it needs to be boolean, true where a pair is left out")
    if array.shape != shape:
        raise InputError(f"exclude is {list(array.shape)}; it needs to be {list(shape)}, as the similarity is")
    return array


def _joined(parts: list[tuple[int, MatchRanks]]) -> MatchRanks:
    return MatchRanks(
        query=np.concatenate([ranks.query + start for start, ranks in parts]),
        rank=np.concatenate([ranks.rank for _, ranks in parts]),
        order=np.concatenate([ranks.order for _, ranks in parts]),
        num_matches=np.concatenate([ranks.num_matches for _, ranks in parts]),
    )


def _mean_by_query(values: Curve, query: Ints, num_matches: Ints) -> Curve:
    """[M] values as means [Q], NaN if a query has none."""
    sums = np.bincount(query, weights=values, minlength=len(num_matches))
    means: Curve = np.where(num_matches > 0, sums / np.maximum(num_matches, 1), np.nan)
    return means


def _cumulated(rank: Ints, weight: Curve, max_rank: int) -> Curve:
    """Sum of the weights [M] of all ranks [M] up to 1 ... max_rank."""
    binned = np.bincount(np.minimum(rank, max_rank + 1), weights=weight, minlength=max_rank + 2)
    return np.asarray(np.cumsum(binned[1 : max_rank + 1]), dtype=np.float64)


def _ndcg(ranks: MatchRanks, max_rank: int) -> Curve:
    """Mean NDCG at 1 ... max_rank; queries with equally many matches share their ideal gain."""
    gain = 1 / np.log2(1 + ranks.rank)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, max_rank + 1)))
    total = np.zeros(max_rank)
    for num in np.unique(ranks.num_matches[ranks.num_matches > 0]):
        chosen = ranks.num_matches[ranks.query] == num
        total += (
            _cumulated(ranks.rank[chosen], gain[chosen], max_rank) / ideal[np.minimum(np.arange(max_rank), num - 1)]
        )
    return np.asarray(total / (ranks.num_matches > 0).sum(), dtype=np.float64)
