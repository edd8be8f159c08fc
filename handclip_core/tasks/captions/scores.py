"""How well images are found by texts, and texts by images: recall, median rank, mAP and NDCG in both directions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handclip_core.data.manifest import Prepared
from handclip_core.errors import InputError
from handclip_core.evaluation.generic import GENERIC
from handclip_core.evaluation.metrics import Metric
from handclip_core.evaluation.questions import Item, Panel, Questions
from handclip_core.evaluation.ranks import match_ranks
from handclip_core.evaluation.storage import read_arrays, write_arrays
from handclip_core.evaluation.units import Evaluation, Units
from handclip_core.tasks.captions.table import read_pairs

Ints = NDArray[np.int64]
Values = NDArray[np.float64]
FORMAT = 2
RECALLS = (1, 5, 10)
NDCG_AT = 10
TOP = 10
"""Answers to a query that are kept."""
FOLD, NUM_FOLDS = 1000, 5
"""COCO's test images are scored whole and as the mean of five folds of a thousand (Karpathy 2015, arXiv 1412.2306)."""
BLOCK = 1 << 24
"""Similarities that are held at once."""
DIRECTIONS: Mapping[str, str] = {"text_to_image": "text to image", "image_to_text": "image to text"}
FIGURES: Mapping[str, str] = {**{f"recall{k}": f"R@{k}" for k in RECALLS}, "map": "mAP", "ndcg": f"NDCG@{NDCG_AT}"}
SHOWN = ("recall1", "recall5", "recall10", "map", "ndcg")
COMPARED = tuple(f"recall{k}" for k in RECALLS)
METRICS = (
    Metric("recall1", "R@1", in_tables=True),
    Metric("map", "mAP", in_tables=True),
    Metric("recall5", "R@5"),
    Metric("recall10", "R@10"),
    Metric("ndcg", f"NDCG@{NDCG_AT}"),
    *(
        Metric(
            f"{direction}_{name}", f"{FIGURES[name]} {label}", in_tables=name == "recall1", compared=name in COMPARED
        )
        for direction, label in DIRECTIONS.items()
        for name in SHOWN
    ),
    GENERIC,
)
"""The mean of both directions by the name of the figure, then each direction."""


@dataclass(frozen=True, eq=False)
class Direction:
    """Queries [Q] of one direction: the ``rank`` of the first match from 1, average precision ``ap``, ``ndcg`` at
    NDCG_AT, and ``top`` [Q, K], up to TOP gallery entries that are most similar, best first, the first of equals before
    others, with their cosines ``similarity`` [Q, K]. ``cluster`` says what they are resampled with.
    """

    rank: Ints
    ap: Values
    ndcg: Values
    cluster: Ints
    top: Ints
    similarity: NDArray[np.float32]

    def values(self, figure: str) -> Values:
        """A figure of each query [Q]."""
        if figure.startswith("recall"):
            return np.asarray(self.rank <= int(figure.removeprefix("recall")), np.float64)
        return self.ap if figure == "map" else self.ndcg


@dataclass(frozen=True, eq=False)
class CaptionScores(Evaluation):
    """Both directions between the images at manifest ``rows`` [n], each once, and the different captions of them.

    ``folds`` are the figures as means over folds of a thousand images; none for fewer than five thousand.
    """

    rows: Ints
    directions: Mapping[str, Direction]
    folds: Mapping[str, float] = field(default_factory=dict)
    num_cut: int = 0
    """Captions that are longer than what the text tower reads."""

    @property
    def metrics(self) -> dict[str, float]:
        """The figures, by name; ``..._median_rank`` is that of the first match."""
        found = {name: float(np.mean([self._mean(one, name) for one in DIRECTIONS])) for name in SHOWN}
        found |= {f"{one}_{name}": self._mean(one, name) for one in DIRECTIONS for name in SHOWN}
        return found | {f"{one}_median_rank": float(np.median(self.directions[one].rank)) for one in DIRECTIONS}

    def units(self, metric: str, part: str | None = None) -> Units:
        """The queries behind a figure, of both directions or of one, which is ``part``."""
        if part is not None and part not in DIRECTIONS:
            raise InputError(f"direction '{part}' was not scored; there are {', '.join(DIRECTIONS)}")
        for one in DIRECTIONS:
            if metric.startswith(f"{one}_"):
                metric, part = metric.removeprefix(f"{one}_"), one
        chosen = [self.directions[one] for one in ([part] if part else DIRECTIONS)]
        values = [one.values(metric) for one in chosen]
        cell = np.repeat(np.arange(len(chosen)), [len(one) for one in values])
        return Units(np.concatenate(values), cell, np.concatenate([one.cluster for one in chosen]))

    @property
    def answers(self) -> Ints:
        """The most similar image of each caption, then the most similar caption of each image."""
        return np.concatenate([self.directions[one].top[:, 0] for one in DIRECTIONS])

    def check_same(self, other: Self) -> None:
        """Raise InputError unless ``other`` searches among the same images and captions."""
        same = [len(self.directions[one].rank) == len(other.directions[one].rank) for one in DIRECTIONS]
        if not np.array_equal(self.rows, other.rows) or not all(same):
            raise InputError("the two models were scored on different images or captions: prepare data once for both")

    def questions(self, data: Prepared) -> Questions:
        """All captions, which ask for images, then all images, which ask for captions."""
        pairs = read_pairs(data).of(self.rows)
        if [len(pairs.texts), len(self.rows)] != [len(self.directions[one].rank) for one in DIRECTIONS]:
            raise InputError(f"{data.folder}: not the captions that the model was evaluated on")
        known = set(zip(pairs.text.tolist(), np.searchsorted(self.rows, pairs.row).tolist(), strict=True))

        def image(at: int, text: str = "", *, right: bool | None = None) -> Item:
            return Item(text, int(self.rows[at]), right)

        def panel(at: int) -> Panel:
            text_asks = at < len(pairs.texts)
            one = self.directions["text_to_image" if text_asks else "image_to_text"]
            query = at if text_asks else at - len(pairs.texts)
            found = list(zip(one.top[query].tolist(), one.similarity[query].tolist(), strict=True))
            if text_asks:
                answers = [image(entry, f"{score:.2f}", right=(query, entry) in known) for entry, score in found]
            else:
                answers = [
                    Item(f"{score:.2f} {pairs.texts[entry]}", right=(entry, query) in known) for entry, score in found
                ]
            asked = Item(pairs.texts[query]) if text_asks else image(query)
            return Panel(asked, tuple(answers), f"rank {one.rank[query]}")

        both = [self.directions[one] for one in DIRECTIONS]
        num, total = len(pairs.texts), len(pairs.texts) + len(self.rows)
        parts = dict(zip(DIRECTIONS.values(), (range(num), range(num, total)), strict=True))
        right = np.concatenate([one.rank == 1 for one in both])
        return Questions(right, np.concatenate([one.ap for one in both]), panel, parts)

    def objective_of(self, part: str) -> float:
        """R@1 of one direction."""
        return self._mean(part, "recall1") if part in DIRECTIONS else float("nan")

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Both directions."""
        rows = [{"direction": label, **self._figures(one)} for one, label in DIRECTIONS.items()]
        return {"By direction": pd.DataFrame(rows)}

    @property
    def files(self) -> dict[str, str | bytes]:
        """A table of both directions as Markdown, by name."""
        return {"report.md": self.text}

    @property
    def text(self) -> str:
        """Both directions in Markdown, in percent but for ranks."""
        heads = [FIGURES[name] for name in SHOWN]
        lines = [f"| | {' | '.join(heads)} | median rank | queries |", f"|---|{'---:|' * (len(heads) + 2)}"]
        for one, label in DIRECTIONS.items():
            queries = self.directions[one]
            shares = " | ".join(f"{100 * self._mean(one, name):.2f}" for name in SHOWN)
            lines.append(f"| {label} | {shares} | {np.median(queries.rank):g} | {len(queries.rank)} |")
            if self.folds:
                shares = " | ".join(f"{100 * self.folds[f'{one}_{name}']:.2f}" for name in SHOWN)
                rank = self.folds[f"{one}_median_rank"]
                lines.append(f"| {label}, mean of {NUM_FOLDS} x {FOLD} images | {shares} | {rank:g} | |")
        if self.num_cut:
            lines += ["", f"{self.num_cut} captions are longer than what the text tower reads: their end was cut"]
        return "\n".join(lines) + "\n"

    def _figures(self, direction: str) -> dict[str, float | int]:
        queries = self.directions[direction]
        shares = {FIGURES[name]: self._mean(direction, name) for name in SHOWN}
        return shares | {"median rank": int(np.median(queries.rank)), "queries": len(queries.rank)}

    def _mean(self, direction: str, figure: str) -> float:
        return float(self.directions[direction].values(figure).mean())


@dataclass(frozen=True, eq=False)
class Pairing:
    """Unit vectors of images [n, D] and texts [T, D], and the pairs ``image`` [P], ``text`` [P] that belong together.

    ``cluster`` [n] is that of each image; a text is in that of the first image that it describes.
    """

    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    image: Ints
    text: Ints
    cluster: Ints

    def directions(self) -> dict[str, Direction]:
        """The results of all queries of both directions."""
        first = np.full(len(self.texts), len(self.images), np.int64)
        np.minimum.at(first, self.text, self.image)
        to_image = _direction(self.texts, self.images, self.text, self.image, self.cluster[first])
        to_text = _direction(self.images, self.texts, self.image, self.text, self.cluster)
        return dict(zip(DIRECTIONS, (to_image, to_text), strict=True))

    def fold(self, start: int) -> "Pairing":
        """FOLD images from number ``start`` on and their captions alone."""
        inside = (self.image >= start) & (self.image < start + FOLD)
        used, text = np.unique(self.text[inside], return_inverse=True)
        part = slice(start, start + FOLD)
        return Pairing(self.images[part], self.texts[used], self.image[inside] - start, text, self.cluster[part])


def score_captions(pairing: Pairing, rows: Ints, *, num_cut: int = 0) -> CaptionScores:
    """Both directions over all images at manifest ``rows`` [n]; from five thousand on also in folds."""
    folds: dict[str, float] = {}
    if len(rows) >= FOLD * NUM_FOLDS:
        parts = [pairing.fold(FOLD * number) for number in range(NUM_FOLDS)]
        found = [CaptionScores(rows[:FOLD], part.directions()).metrics for part in parts]
        folds = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return CaptionScores(rows, pairing.directions(), folds, num_cut)


def _direction(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], query: Ints, match: Ints, cluster: Ints
) -> Direction:
    """Results of ``queries`` [Q, D] in ``gallery`` [G, D]; ``match`` [P] are right answers to ``query`` [P].

    Wrong entries as similar as a right one stand before it.
    """
    order = np.argsort(query, kind="stable")
    query, match = query[order], match[order]
    parts = []
    step = max(1, BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        block = queries[start : start + step] @ gallery.T
        inside = slice(*np.searchsorted(query, [start, start + len(block)]))
        parts.append(_results(block, query[inside] - start, match[inside]))
    rank, ap, ndcg, top, similarity = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Direction(rank, ap, ndcg, cluster, top, similarity)


def _results(block: NDArray[np.float32], row: Ints, column: Ints) -> tuple[NDArray[Any], ...]:
    """Rank of the first match, average precision, NDCG, best entries and their cosines of each row of a block [q, G].

    The block is used up.
    """
    found = match_ranks(block, row, column)
    num, counts = len(block), found.num_matches
    rank = found.rank[np.cumsum(counts) - counts]
    ap = np.bincount(found.query, weights=found.order / found.rank, minlength=num) / counts
    gains = np.where(found.rank <= NDCG_AT, 1 / np.log2(found.rank + 1), 0.0)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, NDCG_AT + 2)))])
    ndcg = np.bincount(found.query, weights=gains, minlength=num) / best[np.minimum(counts, NDCG_AT)]
    return rank, ap, ndcg, *_best_entries(block)


def _best_entries(block: NDArray[np.float32]) -> tuple[Ints, NDArray[np.float32]]:
    rows, num_kept = np.arange(len(block)), min(TOP, block.shape[1])
    top, similarity = np.empty((len(block), num_kept), np.int64), np.empty((len(block), num_kept), np.float32)
    for place in range(num_kept):
        top[:, place] = block.argmax(axis=1)
        similarity[:, place] = block[rows, top[:, place]]
        block[rows, top[:, place]] = -np.inf
    return top, similarity


COLUMNS = ("rank", "ap", "ndcg", "cluster", "top", "similarity")


def save_caption_scores(path: Path, scores: CaptionScores) -> None:
    """Write all of ``scores`` to an ``.npz`` file, whole or not at all."""
    about = {"format": FORMAT, "folds": dict(scores.folds), "num_cut": scores.num_cut}
    columns = {f"{one}_{name}": getattr(scores.directions[one], name) for one in DIRECTIONS for name in COLUMNS}
    write_arrays(path, about, {"rows": scores.rows, **columns})


def load_caption_scores(path: Path) -> CaptionScores:
    """Read what ``save_caption_scores`` wrote; raises InputError if the file is missing or is something else."""

    def build(about: Mapping[str, Any], stored: Mapping[str, Any]) -> CaptionScores:
        directions = {one: Direction(*(stored[f"{one}_{name}"] for name in COLUMNS)) for one in DIRECTIONS}
        return CaptionScores(stored["rows"], directions, about["folds"], about["num_cut"])

    return read_arrays(path, build, version=FORMAT)
