"""Sections of the report on what the winner does: interval, groups, curves and images.

They come from the files in the sweep's ``best`` folder; images and identities come from the data, if those are here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handclip_core.data.manifest import Prepared
from handclip_core.documents import read_document
from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import Estimate, estimate
from handclip_core.evaluation.breakdown import breakdown
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores
from handclip_core.evaluation.questions import Item, Panel, Questions
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.baselines import BaselineGap, read_gaps
from handclip_core.runs.final_scores import SCORES
from handclip_core.runs.run_folder import METRICS
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.charts import COLOURS, axes, band, line, scatter, vertical
from tune_jobs.reporting.page import NONE, Figure, Section, Table, percent, span
from tune_jobs.reporting.panels import data_here, extremes, no_data
from tune_jobs.reporting.summary import resume_command
from tune_jobs.storage.location import StorageLocation

QUERY, GALLERY = "query_embeddings.npy", "gallery_embeddings.npy"
BINS, MERGED, RESAMPLES, MOST_RANKS, SHOWN = 400, 10, 500, 20, 10
MOST_POINTS = 1500
"""Images that the map of embeddings shows."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Winner:
    """The winner's ``folder`` and its sweep's settings; ``where`` the sweep is, if that is not the folder above."""

    folder: Path
    settings: SweepSettings
    where: StorageLocation | None = None

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Its validation results, if they have been kept in a form that this version reads."""
        try:
            return self.settings.task.load(self.folder / SCORES)
        except InputError:
            return None

    @cached_property
    def interval(self) -> Estimate | None:
        """Its objective with 95 % over clusters."""
        objective = self.settings.task.metrics.objective.name
        return None if self.evaluation is None else estimate(self.evaluation, objective)

    @cached_property
    def baselines(self) -> Sequence[BaselineGap]:
        """The baselines that it has been held against on validation, the best first."""
        return read_gaps(self.folder)

    @cached_property
    def data(self) -> Prepared | None:
        """The sweep's data, None if they are not on this machine or are not readable."""
        return data_here(self.settings.data)

    @cached_property
    def questions(self) -> Questions | None:
        """What it was asked in validation, with its answers, if the data are here; with galleries, of the first one."""
        if self.settings.task.has_galleries:
            return None if self.search is None else self.search.questions
        try:
            return None if self.evaluation is None or self.data is None else self.evaluation.questions(self.data)
        except InputError:
            return None

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Those of its last unit and more, as ``metrics.json`` has them."""
        path = self.folder / METRICS
        return dict(read_document(path)) if path.is_file() else {}

    @cached_property
    def search(self) -> "Search | None":
        """Its first gallery split, searched with the embeddings that were kept."""
        rows = self.figures.get("embedding_rows", {})
        if self.data is None or not all((self.folder / name).is_file() and name in rows for name in (QUERY, GALLERY)):
            return None
        query, gallery = (np.load(self.folder / name).astype(np.float64) for name in (QUERY, GALLERY))
        query_rows, gallery_rows = (np.asarray(rows[name], np.int64) for name in (QUERY, GALLERY))
        return Search(self.data, query, gallery, query_rows, gallery_rows, self.settings.data.gallery)


@dataclass(frozen=True, eq=False)
class Search:
    """Embeddings [Q, D] and [G, D] of length one, and their rows of the manifest; ``kind`` says who is searched for."""

    data: Prepared
    query: Floats
    gallery: Floats
    query_rows: NDArray[np.int64]
    gallery_rows: NDArray[np.int64]
    kind: GalleryKind

    def column(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A column of the manifest as text."""
        return self.data.manifest[name].to_numpy(dtype=str)[rows]

    @cached_property
    def similarity(self) -> Floats:
        """Cosines [Q, G]; minus infinity for what is not in a query's gallery."""
        found = self.query @ self.gallery.T
        if self.kind is not GalleryKind.ALL:
            found[~self.same_aspect] = -np.inf
        return found

    @cached_property
    def same_aspect(self) -> NDArray[np.bool_]:
        """Whether two images show the same side of the same hand [Q, G]."""
        ours, theirs = (self.column("aspect", rows) for rows in (self.query_rows, self.gallery_rows))
        return np.asarray(ours[:, None] == theirs)

    @cached_property
    def identities(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Those of the queries [Q] and of the gallery [G]."""
        return self.column("identity", self.query_rows), self.column("identity", self.gallery_rows)

    @cached_property
    def genuine(self) -> NDArray[np.bool_]:
        """Whether a gallery image is a match [Q, G]: of the query's identity and aspect; others are distractors."""
        ours, theirs = self.identities
        return np.asarray((ours[:, None] == theirs) & self.same_aspect)

    @cached_property
    def first_rank(self) -> NDArray[np.int64]:
        """The rank of a query's best match [Q]; impostors as similar as it come first."""
        best = np.where(self.genuine, self.similarity, -np.inf).max(axis=1, keepdims=True)
        before = (self.similarity >= best) & ~self.genuine & np.isfinite(self.similarity)
        return np.asarray(1 + before.sum(axis=1), np.int64)

    @cached_property
    def questions(self) -> Questions:
        """All queries with the gallery images most like each; of pairs of one aspect, if they are of one identity."""
        ours, theirs = self.identities

        def panel(at: int) -> Panel:
            best = np.argsort(-self.similarity[at], kind="stable")[:SHOWN]
            answers = tuple(
                Item(
                    f"{theirs[one]}, {self.similarity[at, one]:.2f}",
                    int(self.gallery_rows[one]),
                    True if self.genuine[at, one] else False if ours[at] != theirs[one] else None,
                )
                for one in best.tolist()
                if np.isfinite(self.similarity[at, one])
            )
            asked = Item(str(ours[at]), int(self.query_rows[at]))
            return Panel(asked, answers, f"rank {self.first_rank[at]}")

        parts = {"queries": range(len(self.query))}
        pairs = self.genuine[self.same_aspect], (self.similarity[self.same_aspect] + 1) / 2
        return Questions(self.first_rank == 1, self.average_precision, panel, parts, {"same identity": pairs})

    @cached_property
    def average_precision(self) -> Floats:
        """That of each query [Q]."""
        order = np.argsort(-self.similarity, axis=1, kind="stable")
        hits = np.take_along_axis(self.genuine, order, axis=1)
        ranks = np.arange(1, hits.shape[1] + 1)
        found = (np.cumsum(hits, axis=1) / ranks * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)
        return np.asarray(found, dtype=np.float64)

    def over_identities(self, counts: NDArray[np.float64]) -> Floats:
        """Sums of ``counts`` [Q, B] over resamples of the query identities, the sample itself first: [R + 1, B]."""
        people, who = np.unique(self.identities[0], return_inverse=True)
        sums = np.zeros((len(people), counts.shape[1]))
        np.add.at(sums, who, counts)
        random = np.random.default_rng(0)
        drawn = random.multinomial(len(people), np.full(len(people), 1 / len(people)), size=RESAMPLES)
        return np.asarray(np.vstack([np.ones(len(people)), drawn]) @ sums, dtype=np.float64)


def groups(winner: Winner) -> Section:
    """Scores by aspect, skin tone, gender and age."""
    title = "By group"
    if not isinstance(winner.evaluation, ProtocolScores):
        return Section(title=title, missing=missing(winner))
    if winner.data is None:
        return Section(title=title, missing=missing(winner))
    found = breakdown(winner.evaluation, winner.data.manifest)
    columns: dict[str, Sequence[str]] = {
        "group": [one.group for one in found],
        "value": [one.value for one in found],
        "identities": [str(one.num_identities) for one in found],
        "images": [str(one.num_images) for one in found],
        "queries": [f"{one.num_queries:,}" for one in found],
    }
    for label, name in (("mAP", "map"), ("rank-1", "cmc1")):
        estimates: list[Estimate | None] = [getattr(one, name) for one in found]
        columns[label] = [NONE if one is None else percent(one.value) for one in estimates]
        columns[f"95 % of {label}"] = [NONE if one is None else span(one) for one in estimates]
    lines = ("Means over the queries of a group, all gallery splits together. A group of few identities has a wide "
             "interval and may have none that means anything.",)  # fmt: skip
    return Section(
        title=title, lines=lines, tables=(Table.of("The winner by group, validation", columns, num_words=2),)
    )


def missing(winner: Winner) -> str:
    """Why nothing can be shown of the winner."""
    sweep = winner.where or winner.folder.parent
    if not winner.folder.is_dir():
        return f"The sweep has exported no winner yet; it does at its end. If it was stopped: {resume_command(sweep)}"
    return f"{no_data(sweep)}. If they are, the winner's results were not kept."


def curves(winner: Winner) -> Section:
    """CMC, ROC, DET and the distributions of scores."""
    search = winner.search
    if search is None:
        return Section(title="Identification and verification", missing=missing(winner))
    what = f"{len(search.query)} queries, {len(search.gallery)} gallery images, first gallery split, cosine"
    return Section(title="Identification and verification", figures=(_cmc(search, what), *_verification(search, what)))


def _cmc(search: Search, what: str) -> Figure:
    ranks = np.arange(1, min(MOST_RANKS, len(search.gallery)) + 1)
    hits = np.column_stack([search.first_rank[:, None] <= ranks, np.ones(len(search.query))]).astype(np.float64)
    sums = search.over_identities(hits)
    rates = 100 * sums[:, :-1] / sums[:, -1:]
    low, high = np.quantile(rates[1:], (0.025, 0.975), axis=0)
    caption = f"Cumulative match characteristic with 95 % over identities ({what})."
    return Figure(
        caption=caption, data=tuple(band("CMC", ranks, rates[0], low, high)), layout=axes("rank", "found by then, %")
    )


def _verification(search: Search, what: str) -> list[Figure]:
    edges = np.linspace(-1, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, search.similarity, side="right") - 1, 0, BINS - 1)
    compared = search.same_aspect
    counts = []
    for mask in (search.genuine, ~search.genuine & compared):
        found = np.zeros((len(search.query), BINS))
        np.add.at(found, (np.nonzero(mask)[0], place[mask]), 1)
        counts.append(search.over_identities(found))
    # From the highest score down: the share of pairs that a threshold accepts.
    tar, far = (np.cumsum(one[:, ::-1], axis=1) / np.maximum(one.sum(axis=1, keepdims=True), 1) for one in counts)
    # Rates below one pair in all mean nothing.
    lowest = max(1e-4, 1 / max(1.0, float(counts[1][0].sum())))
    grid = np.logspace(np.log10(lowest), 0, 60)
    rates = np.stack([100 * np.interp(grid, far_one, tar_one) for far_one, tar_one in zip(far, tar, strict=True)])
    low, high = np.quantile(rates[1:], (0.025, 0.975), axis=0)
    roc = _errors("ROC", what, grid, (rates[0], low, high), axes("false accept rate", "true accept rate, %"))
    det = _det(what, grid, (rates[0], low, high), num_genuine=float(counts[0][0].sum()))
    # Thresholds want narrow bins, the figure wide ones.
    centres = (edges[:-1] + edges[1:]).reshape(-1, MERGED).mean(axis=1) / 2
    used = slice(int(place[compared].min()) // MERGED, int(place[compared].max()) // MERGED + 1)
    shares = [one[0].reshape(-1, MERGED).sum(axis=1) / max(1.0, one[0].sum()) for one in counts]
    traces = [
        line(name, list(zip(centres[used].tolist(), (100 * share[used]).tolist(), strict=True)), colour)
        | {"fill": "tozeroy", "line": {"color": colour, "dash": dash}}
        for name, share, colour, dash in zip(
            ("same identity", "different"), shares, COLOURS[:2], ("solid", "dot"), strict=True
        )
    ]
    thresholds = {rate: float(edges[BINS - int(np.argmax(far[0] > rate))]) for rate in (0.01, 0.1) if rate >= lowest}
    shapes = [vertical(at, "dash") for at in thresholds.values()]
    said = "; ".join(f"threshold {at:.3f} accepts {rate:.0%} of different ones" for rate, at in thresholds.items())
    histogram = Figure(
        caption=f"Similarities of pairs of one aspect: {said or 'too few pairs for a threshold'}.",
        data=tuple(traces),
        layout=axes("cosine", "share of pairs, %", shapes=shapes),
    )
    return [roc, det, histogram]


def _det(what: str, grid: Floats, tar: tuple[Floats, Floats, Floats], *, num_genuine: float) -> Figure:
    """Both error rates, by their logarithms."""
    # No logarithm is of zero, and rates below one pair in all mean nothing.
    mean, low, high = (np.maximum(100 - rate, 50 / max(1.0, num_genuine)) for rate in tar)
    layout = axes("false accept rate", "false reject rate, %")
    layout["yaxis"] |= {"type": "log"}
    return _errors("DET", what, grid, (mean, high, low), layout)


def _errors(name: str, what: str, grid: Floats, curve: tuple[Floats, Floats, Floats], layout: dict[str, Any]) -> Figure:
    """A curve over the false accept rate with the ends of its band."""
    layout["xaxis"] |= {"type": "log"}
    caption = f"{name} of pairs of one aspect, with 95 % over identities ({what})."
    return Figure(caption=caption, data=tuple(band(name, grid, *curve)), layout=layout)


def images(winner: Winner) -> Section:
    """Best, median and worst queries with what they find, pairs that are confused, and a map."""
    search = winner.search
    if search is None:
        return Section(title="What it finds", missing=missing(winner))
    ours, theirs = search.identities
    first = np.argmax(search.similarity, axis=1)
    wrong = Counter((str(ours[q]), str(theirs[g])) for q, g in enumerate(first) if ours[q] != theirs[g])
    rows = wrong.most_common(SHOWN)
    columns = {
        "query": [q for (q, _), _ in rows],
        "taken for": [g for (_, g), _ in rows],
        "times": [str(n) for _, n in rows],
    }
    tables = (Table.of("Most confused", columns, num_words=2),) if rows else ()
    lines = (
        f"{sum(wrong.values())} of {len(first)} queries find somebody else first (first gallery split, cosine). "
        "A match shows the same side of the same hand; framed in grey is another side of it.",
    )
    strips = tuple(extremes(search.questions, search.data))
    return Section(title="What it finds", lines=lines, tables=tables, strips=strips, figures=(_map(search),))


def _map(search: Search) -> Figure:
    vectors, rows = np.vstack([search.query, search.gallery]), np.concatenate([search.query_rows, search.gallery_rows])
    if len(rows) > MOST_POINTS:
        kept = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_POINTS])
        vectors, rows = vectors[kept], rows[kept]
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    places = left[:, :2] * sizes[:2]
    share = float((sizes[:2] ** 2).sum() / max((sizes**2).sum(), 1e-12))
    found = pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "who": search.column("identity", rows)})
    found["aspect"] = search.column("aspect", rows)
    traces = [
        scatter(
            str(aspect),
            "markers",
            group["x"].round(4).tolist(),
            group["y"].round(4).tolist(),
            text=group["who"].tolist(),
            hovertemplate="%{text}<extra></extra>",
            marker={"color": COLOURS[at % len(COLOURS)], "size": 5},
        )
        for at, (aspect, group) in enumerate(found.groupby("aspect"))
    ]
    caption = f"Embeddings on their first two principal components, which hold {share:.0%} of the variance."
    return Figure(caption=caption, data=tuple(traces), layout=axes("first", "second"))
