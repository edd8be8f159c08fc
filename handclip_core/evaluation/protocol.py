"""The protocol of the hand papers: embeddings once, all draws of galleries by indexing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.data.manifest import Draw
from handclip_core.errors import InputError
from handclip_core.evaluation.identities import Ids, identity_codes
from handclip_core.evaluation.retrieval import BLOCK_ELEMENTS, RetrievalScores, exact_mean, scores_of_blocks
from handclip_core.evaluation.similarity import as_tensor, cosine, cosine_blocks

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
WHOLE_MATRIX_ROWS = 8192
"""Up to this many rows all similarities (256 MiB) are computed at once; beyond, those of one gallery at a time."""
MAX_RANK = 10
METRICS = ("map", "map_trapezoid", "minp", "cmc1", "cmc5", "cmc10")


class GalleryKind(StrEnum):
    """Which gallery the queries of an aspect are searched in."""

    ALL = "all"
    """Galleries of every aspect; people of another aspect, the query's own person too, count as strangers."""
    OWN = "own"
    """The gallery of the query's aspect."""


@dataclass(frozen=True)
class Figure:
    """A mean over draws and the standard deviation (n - 1) between them, None of a single draw.

    The draws share their pictures: the deviation says how much a draw matters, not how sure the mean is.
    """

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Scores:
    """What a table shows of one aspect, or of the mean over aspects. Definitions: `RetrievalScores`."""

    map: Figure
    map_trapezoid: Figure
    minp: Figure
    cmc1: Figure
    cmc5: Figure
    cmc10: Figure


@dataclass(frozen=True, eq=False)
class QueryScores:
    """One entry a query and draw [M], from which intervals and breakdowns are made.

    ``draw`` and ``aspect`` are positions (in the draws given, in ``ProtocolScores.aspects``), ``row`` is the manifest
    row, ``identity`` a code shared by all rows of a person. Where the query has no match, ``ap``, ``ap_trapezoid`` and
    ``inp`` are NaN and ``first_rank`` is 0.
    """

    draw: Ints
    aspect: Ints
    row: Ints
    identity: Ints
    ap: Values
    ap_trapezoid: Values
    inp: Values
    first_rank: Ints


@dataclass(frozen=True, eq=False)
class ProtocolScores:
    """Scores of one model over draws and aspects.

    ``overall`` is the mean over aspects of the mean over draws, its deviation that of the draws' means over aspects.
    ``per_draw`` [draws, aspects] are the same figures before any mean, by the names in METRICS. ``num_queries`` and
    ``num_unmatched`` count over all draws; unmatched queries have no part in the means. Aspects in which a draw has no
    query at all are in ``without_query`` and in no mean.
    """

    gallery: GalleryKind
    overall: Scores
    per_aspect: Mapping[str, Scores]
    per_draw: Mapping[str, Values]
    queries: QueryScores
    num_queries: int
    num_unmatched: int
    without_query: tuple[str, ...]

    @property
    def aspects(self) -> tuple[str, ...]:
        """The scored aspects, in the order of ``per_draw`` and of ``queries.aspect``."""
        return tuple(self.per_aspect)


class DrawScorer:
    """Similarities between the rows of a manifest, computed once and asked for each draw."""

    def __init__(self, embeddings: NDArray[Any] | Tensor, rows: Ids, identities: Ids) -> None:
        """Embeddings [N, D], the manifest row of each [N], and the identity of every manifest row.

        Raises InputError where the lengths differ or a row is given twice.
        """
        self._embeddings = as_tensor(embeddings)
        places = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows, dtype=np.int64)
        (self._codes,) = identity_codes(identities, names=("identities",))
        if places.shape != (len(self._embeddings),):
            raise InputError(f"{len(self._embeddings)} embeddings were given for {len(places)} manifest rows")
        if places.size and not 0 <= places.min() <= places.max() < len(self._codes):
            raise InputError(
                f"rows reach from {places.min()} to {places.max()}, the manifest has {len(self._codes)} rows"
            )
        self._place = np.full(len(self._codes), -1, dtype=np.int64)
        self._place[places] = np.arange(len(places))
        if np.count_nonzero(self._place >= 0) != len(places):
            raise InputError("a manifest row has more than one embedding")
        whole = len(places) <= WHOLE_MATRIX_ROWS
        self._matrix = cosine(self._embeddings, self._embeddings).cpu().numpy() if whole else None

    def identities(self, rows: Ints) -> Ints:
        """Codes [R] of the people on manifest rows [R]."""
        return self._codes[rows]

    def similarity(self, query: Ints, gallery: Ints) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first query, cosines [q, G]) of manifest rows; raises InputError for a row without an embedding."""
        left, right = self._places(query), self._places(gallery)
        if self._matrix is not None:
            yield 0, self._matrix[left[:, None], right]
            return
        step = max(1, BLOCK_ELEMENTS // max(1, len(right)))
        for start, block in cosine_blocks(self._embeddings[left], self._embeddings[right], rows=step):
            yield start, block.cpu().numpy()

    def score(self, query: Ints, gallery: Ints, strangers: Ints) -> RetrievalScores:
        """Scores of manifest rows ``query`` against ``gallery``, in which ``strangers`` stand too and match nobody."""
        blocks = self.similarity(query, np.concatenate([gallery, strangers]))
        nobody = np.full(len(strangers), len(self._codes), dtype=np.int64)
        gallery_codes = np.concatenate([self._codes[gallery], nobody])
        return scores_of_blocks(blocks, self._codes[query], gallery_codes, exclude=None, max_rank=MAX_RANK)

    def _places(self, rows: Ints) -> Ints:
        places = self._place[rows] if rows.size and rows.max() < len(self._place) else np.full(len(rows), -1)
        if places.size and places.min() < 0:
            raise InputError(f"the draws use manifest row {rows[int(np.argmin(places))]}, which has no embedding")
        return places


def score_draws(
    embeddings: NDArray[Any] | Tensor,
    rows: Ids,
    draws: Sequence[Draw],
    identities: Ids,
    *,
    gallery: GalleryKind = GalleryKind.ALL,
) -> ProtocolScores:
    """Scores of embeddings [N, D] of the manifest rows [N] over the draws, aspect by aspect.

    ``identities`` has the person of every manifest row (not only of those embedded): integers or texts. With one aspect
    both kinds of gallery are the same. Raises InputError where a draw uses a row without embedding, an aspect has
    queries but none with a match, or no draw has a query.
    """
    aspects = _aspects(draws)
    scorer = DrawScorer(embeddings, rows, identities)
    table = [
        [_score_one(scorer, draw, aspect, gallery, number) for aspect in aspects] for number, draw in enumerate(draws)
    ]
    per_draw = {name: np.array([[_metric(cell, name) for cell in line] for line in table]) for name in METRICS}
    per_aspect = {aspect: _scores({k: v[:, [i]] for k, v in per_draw.items()}) for i, aspect in enumerate(aspects)}
    return ProtocolScores(
        gallery=gallery,
        overall=_scores(per_draw),
        per_aspect=per_aspect,
        per_draw=per_draw,
        queries=_queries(scorer, draws, aspects, table),
        num_queries=sum(cell.num_queries for line in table for cell in line),
        num_unmatched=sum(cell.num_unmatched for line in table for cell in line),
        without_query=tuple(sorted({name for draw in draws for name in draw.gallery} - set(aspects))),
    )


def cross_aspect_scores(
    embeddings: NDArray[Any] | Tensor, rows: Ids, draws: Sequence[Draw], identities: Ids
) -> dict[tuple[str, str], Scores]:
    """Scores of the queries of one aspect in the gallery of another: {(query aspect, gallery aspect): scores}.

    Here the same person's other aspect *is* the match. Pairs of aspects that share no person are left out.
    Raises as :func:`score_draws` does, and InputError where no two aspects share a person.
    """
    aspects = _aspects(draws)
    scorer = DrawScorer(embeddings, rows, identities)
    found = {}
    for pair in ((left, right) for left in aspects for right in aspects if left != right):
        cells = [_score_cross(scorer, draw, *pair) for draw in draws]
        matched = [cell for cell in cells if cell is not None]
        if len(matched) == len(draws):
            found[pair] = _scores({name: np.array([[_metric(cell, name)] for cell in matched]) for name in METRICS})
    if not found:
        raise InputError("no two aspects share a person, so there is nothing to search across aspects")
    return found


def _aspects(draws: Sequence[Draw]) -> tuple[str, ...]:
    """Aspects with a query in every draw, in the first draw's order."""
    if not draws:
        raise InputError("there are no draws to score")
    aspects = tuple(name for name in draws[0].query if all(draw.query.get(name) for draw in draws))
    if not aspects:
        raise InputError("no draw has a query: each person needs at least two images of an aspect")
    return aspects


def _array(rows: Sequence[int]) -> Ints:
    return np.asarray(rows, dtype=np.int64)


def _score_one(scorer: DrawScorer, draw: Draw, aspect: str, kind: GalleryKind, number: int) -> RetrievalScores:
    own = _array(draw.gallery.get(aspect, ()))
    strangers = _array(())
    if kind is GalleryKind.ALL:
        others = [_array(rows) for name, rows in draw.gallery.items() if name != aspect]
        strangers = np.setdiff1d(np.concatenate([*others, strangers]), own)
    try:
        return scorer.score(_array(draw.query[aspect]), own, strangers)
    except InputError as error:
        raise InputError(f"draw {number}, aspect '{aspect}': {error}") from None


def _score_cross(scorer: DrawScorer, draw: Draw, left: str, right: str) -> RetrievalScores | None:
    query, gallery = _array(draw.query[left]), _array(draw.gallery.get(right, ()))
    if not np.isin(scorer.identities(query), scorer.identities(gallery)).any():
        return None
    return scorer.score(query, gallery, _array(()))


def _metric(scores: RetrievalScores, name: str) -> float:
    if name.startswith("cmc"):
        return float(scores.cmc[int(name.removeprefix("cmc")) - 1])
    return float(getattr(scores, name))


def _scores(per_draw: Mapping[str, Values]) -> Scores:
    """[draws, aspects] of each metric as means over aspects and draws."""
    return Scores(**{name: figure(values.mean(axis=1)) for name, values in per_draw.items()})


def figure(values: Values) -> Figure:
    """Mean and standard deviation of one value a draw [draws]."""
    return Figure(exact_mean(values), float(values.std(ddof=1)) if len(values) > 1 else None)


def _queries(
    scorer: DrawScorer, draws: Sequence[Draw], aspects: Sequence[str], table: Sequence[Sequence[RetrievalScores]]
) -> QueryScores:
    cells = [(i, j, table[i][j]) for i in range(len(draws)) for j in range(len(aspects))]
    rows = np.concatenate([_array(draws[i].query[aspects[j]]) for i, j, _ in cells])
    return QueryScores(
        draw=np.concatenate([np.full(cell.num_queries, i) for i, _, cell in cells]),
        aspect=np.concatenate([np.full(cell.num_queries, j) for _, j, cell in cells]),
        row=rows,
        identity=scorer.identities(rows),
        ap=np.concatenate([cell.ap for _, _, cell in cells]),
        ap_trapezoid=np.concatenate([cell.ap_trapezoid for _, _, cell in cells]),
        inp=np.concatenate([cell.inp for _, _, cell in cells]),
        first_rank=np.concatenate([cell.first_rank for _, _, cell in cells]),
    )
