"""The protocol of the hand papers: embeddings once, all gallery splits by indexing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.data.manifest import GallerySplit, Prepared
from handclip_core.errors import InputError
from handclip_core.evaluation.gallery_splits import Sides, Similarity, SplitScorer
from handclip_core.evaluation.identities import Ids
from handclip_core.evaluation.metrics import RANKING
from handclip_core.evaluation.questions import Item, Panel, Questions
from handclip_core.evaluation.retrieval import exact_mean
from handclip_core.evaluation.units import Evaluation, Units

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
METRICS = tuple(metric.name for metric in RANKING)


class GalleryKind(StrEnum):
    """Which gallery the queries of an aspect are searched in."""

    ALL = "all"
    """Galleries of every aspect; identities of another aspect, the query's own identity too, count as distractors."""
    OWN = "own"
    """The gallery of the query's aspect."""


class Enrolled(StrEnum):
    """Which images of an identity stand in the gallery of a draw."""

    ONE = "one"
    """The one that was drawn; all others are queries."""
    REST = "rest"
    """All but the one that was drawn, which is the single query."""


def with_roles(gallery_split: GallerySplit, identities: Sequence[object], enrolled: Enrolled) -> GallerySplit:
    """A draw in which that was drawn one image an identity for the gallery, with queries and gallery as ``enrolled``.

    ``identities`` has the identity of every manifest row. Who has no query (distractors among them) is in the gallery
    either way.
    """
    if enrolled is Enrolled.ONE:
        return gallery_split
    gallery, query = {}, {}
    for aspect, drawn in gallery_split.gallery.items():
        others = gallery_split.query.get(aspect, ())
        asked = {identities[row] for row in others}
        query[aspect] = tuple(row for row in drawn if identities[row] in asked)
        gallery[aspect] = tuple(sorted([*others, *(row for row in drawn if identities[row] not in asked)]))
    return GallerySplit(gallery=gallery, query=query)


@dataclass(frozen=True)
class Figure:
    """A mean over gallery splits and the standard deviation (n - 1) between them, None of a single gallery split.

    The gallery splits share their images: the deviation says how much a gallery split matters, not how sure the mean
    is.
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
    """One entry a query and gallery split [M], from which means, intervals and breakdowns are made.

    ``draw`` and ``aspect`` are positions (in the gallery splits given, in ``ProtocolScores.aspects``), ``row`` is the
    manifest row, ``identity`` a code shared by all rows of an identity. If the query has no match, ``ap``,
    ``ap_trapezoid`` and ``inp`` are NaN and ``first_rank`` is 0.
    """

    draw: Ints
    aspect: Ints
    row: Ints
    identity: Ints
    ap: Values
    ap_trapezoid: Values
    inp: Values
    first_rank: Ints

    def metric(self, name: str) -> Values:
        """One of METRICS for each query [M] (``cmc<k>`` as 0 or 1), NaN if the query has no match."""
        if name.startswith("cmc"):
            found = (self.first_rank <= int(name.removeprefix("cmc"))).astype(np.float64)
            return np.where(self.first_rank > 0, found, np.nan)
        return {"map": self.ap, "map_trapezoid": self.ap_trapezoid, "minp": self.inp}[name]


@dataclass(frozen=True, eq=False)
class ProtocolScores(Evaluation):
    """Scores of one model over gallery splits and aspects.

    ``overall`` is the mean over aspects of the mean over gallery splits, its deviation that of the gallery splits'
    means over aspects. ``per_draw`` [gallery_splits, aspects] are the same figures before any mean, by the names in
    METRICS. ``num_queries`` and ``num_unmatched`` count over all gallery splits; unmatched queries have no part in the
    means. Aspects in which a gallery split has no query at all are in ``without_query`` and in no mean.
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

    @property
    def metrics(self) -> dict[str, float]:
        """The means over aspects and gallery splits, by the names in METRICS."""
        return {name: float(getattr(self.overall, name).mean) for name in METRICS}

    def units(self, metric: str, part: str | None = None) -> Units:
        """Queries with a match, of all aspects or of ``part``, one of them; a cell is an aspect in a gallery split."""
        queries = self.queries
        kept = queries.first_rank > 0
        if part is not None:
            if part not in self.aspects:
                raise InputError(f"aspect '{part}' was not scored; there are {', '.join(self.aspects)}")
            kept &= queries.aspect == self.aspects.index(part)
        cell = queries.draw * (int(queries.aspect.max()) + 1) + queries.aspect
        return Units(queries.metric(metric)[kept], cell[kept], queries.identity[kept])

    @property
    def answers(self) -> Ints:
        """The rank of each query's first match [M]."""
        return self.queries.first_rank

    def check_same(self, other: Self) -> None:
        """Raise InputError if ``other`` was not scored on the same queries, draws and kind of gallery."""
        if self.gallery is not other.gallery:
            raise InputError(f"one model was scored on gallery '{self.gallery}', the other on '{other.gallery}'")
        same = self.aspects == other.aspects and all(
            np.array_equal(getattr(self.queries, name), getattr(other.queries, name))
            for name in ("draw", "aspect", "row")
        )
        if not same:
            raise InputError("the two models were scored on different queries or draws: prepare the data once for both")
        if not np.array_equal(self.queries.first_rank == 0, other.queries.first_rank == 0):
            raise InputError("a query has a match for one model and none for the other: their galleries differ")

    def questions(self, data: Prepared) -> Questions:
        """All queries of all gallery splits, and the rank of the first match of each; not what stands before it."""
        queries, identities = self.queries, data.manifest["identity"]

        def panel(at: int) -> Panel:
            row, rank = int(queries.row[at]), int(queries.first_rank[at])
            return Panel(Item(str(identities.iloc[row]), row), (), f"rank {rank}" if rank else "no match")

        quality = np.nan_to_num(queries.ap)
        return Questions(queries.first_rank == 1, quality, panel, {"queries": range(len(quality))})

    def objective_of(self, part: str) -> float:
        """mAP of one aspect; NaN if it has no query."""
        return float(self.per_aspect[part].map.mean) if part in self.per_aspect else float("nan")


def score_gallery_splits(
    embeddings: NDArray[Any] | Tensor,
    rows: Ids,
    gallery_splits: Sequence[GallerySplit],
    identities: Ids,
    *,
    gallery: GalleryKind = GalleryKind.ALL,
    similarity: Similarity | None = None,
    unit: bool = True,
) -> ProtocolScores:
    """Scores of embeddings [N, D] of the manifest rows [N] over the gallery_splits, aspect by aspect.

    ``identities`` has the identity of every manifest row (not only of those embedded): integers or texts. With one
    aspect both kinds of gallery are the same. ``similarity`` (see `rerank.RANKINGS`) takes the place of the cosine and
    sees all queries of a gallery split and aspect at once, as vectors of length 1 if ``unit``. Raises InputError if a
    gallery split uses a row without embedding, an aspect has queries but none with a match, or no gallery split has a
    query.
    """
    aspects = aspects_of(gallery_splits)
    scorer = SplitScorer(embeddings, rows, identities, similarity=similarity, unit=unit)
    parts = []
    for position, aspect in enumerate(aspects):
        sides = [sides_of(gallery_split, aspect, gallery) for gallery_split in gallery_splits]
        try:
            parts += _parts(scorer, sides, position)
        except InputError as error:
            raise InputError(f"aspect '{aspect}', {error}") from None
    without = sorted({name for gallery_split in gallery_splits for name in gallery_split.gallery} - set(aspects))
    return collect(_joined(parts), aspects, gallery=gallery, without_query=tuple(without))


def cross_aspect_scores(
    embeddings: NDArray[Any] | Tensor,
    rows: Ids,
    gallery_splits: Sequence[GallerySplit],
    identities: Ids,
    *,
    similarity: Similarity | None = None,
    unit: bool = True,
) -> dict[tuple[str, str], ProtocolScores]:
    """Scores of the queries of one aspect in the gallery of another: {(query aspect, gallery aspect): scores}.

    Here the same identity's other aspect *is* the match. ``similarity`` and ``unit`` are as in
    :func:`score_gallery_splits`. Pairs of aspects that share no identity in some gallery split are left out. Raises as
    that function does, and InputError if no two aspects share an identity.
    """
    aspects = aspects_of(gallery_splits)
    scorer = SplitScorer(embeddings, rows, identities, similarity=similarity, unit=unit)
    found = {}
    for left, right in permutations(aspects, 2):
        sides = [
            Sides(_array(gallery_split.query[left]), _array(gallery_split.gallery.get(right, ())), _array(()))
            for gallery_split in gallery_splits
        ]
        if all(np.isin(scorer.identities(one.query), scorer.identities(one.gallery)).any() for one in sides):
            queries = _joined(_parts(scorer, sides, 0))
            found[left, right] = collect(queries, (left,), gallery=GalleryKind.OWN, without_query=())
    if not found:
        raise InputError("no two aspects share an identity, so there is nothing to search across aspects")
    return found


def collect(
    queries: QueryScores, aspects: Sequence[str], *, gallery: GalleryKind, without_query: tuple[str, ...]
) -> ProtocolScores:
    """Means over queries, draws and aspects of single results; each gallery split and aspect needs a query with a
    match.
    """
    cell = queries.draw * len(aspects) + queries.aspect
    per_draw = {name: _cell_means(queries.metric(name), cell).reshape(-1, len(aspects)) for name in METRICS}
    per_aspect = {
        aspect: _scores({name: values[:, [position]] for name, values in per_draw.items()})
        for position, aspect in enumerate(aspects)
    }
    return ProtocolScores(
        gallery=gallery,
        overall=_scores(per_draw),
        per_aspect=per_aspect,
        per_draw=per_draw,
        queries=queries,
        num_queries=len(queries.row),
        num_unmatched=int(np.count_nonzero(queries.first_rank == 0)),
        without_query=without_query,
    )


def _cell_means(values: Values, cell: Ints) -> Values:
    """Mean of the values [M] that are not NaN in each cell [C]."""
    kept = ~np.isnan(values)
    order = np.argsort(cell[kept], kind="stable")
    bounds = np.searchsorted(cell[kept][order], np.arange(1, int(cell.max()) + 1))
    return np.array([exact_mean(part) for part in np.split(values[kept][order], bounds)])


def aspects_of(gallery_splits: Sequence[GallerySplit]) -> tuple[str, ...]:
    """Aspects with a query in every gallery split, in the first gallery split's order."""
    if not gallery_splits:
        raise InputError("there are no draws to score")
    aspects = tuple(
        name
        for name in gallery_splits[0].query
        if all(gallery_split.query.get(name) for gallery_split in gallery_splits)
    )
    if not aspects:
        raise InputError("no draw has a query: each identity needs at least two images of an aspect")
    return aspects


def sides_of(gallery_split: GallerySplit, aspect: str, kind: GalleryKind) -> Sides:
    """The queries of an aspect, the gallery in which their identities are matches, and the distractors beside it."""
    own = _array(gallery_split.gallery.get(aspect, ()))
    others = [
        _array(rows) for name, rows in gallery_split.gallery.items() if name != aspect and kind is GalleryKind.ALL
    ]
    return Sides(_array(gallery_split.query[aspect]), own, np.setdiff1d(np.concatenate([*others, _array(())]), own))


def _array(rows: Sequence[int]) -> Ints:
    return np.asarray(rows, dtype=np.int64)


def _parts(scorer: SplitScorer, gallery_splits: Sequence[Sides], aspect: int) -> list[QueryScores]:
    """Query results of one aspect, draw by draw."""
    return [
        QueryScores(
            draw=np.full(len(sides.query), number),
            aspect=np.full(len(sides.query), aspect),
            row=sides.query,
            identity=scorer.identities(sides.query),
            ap=scores.ap,
            ap_trapezoid=scores.ap_trapezoid,
            inp=scores.inp,
            first_rank=scores.first_rank,
        )
        for number, (sides, scores) in enumerate(zip(gallery_splits, scorer.score(gallery_splits), strict=True))
    ]


def _joined(parts: Sequence[QueryScores]) -> QueryScores:
    names = QueryScores.__dataclass_fields__
    return QueryScores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _scores(per_draw: Mapping[str, Values]) -> Scores:
    """[gallery_splits, aspects] of each metric as means over aspects and gallery_splits."""
    return Scores(**{name: _figure(values.mean(axis=1)) for name, values in per_draw.items()})


def _figure(values: Values) -> Figure:
    return Figure(exact_mean(values), float(values.std(ddof=1)) if len(values) > 1 else None)
