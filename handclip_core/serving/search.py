"""Searching a gallery: exact, with ties by a stated rule; by faiss first if the gallery is large.

An identity scores as its best image does. Higher scores come first; of equal ones the identity that comes first in the
order of code points; within an identity, the image that does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from handclip_core.serving.gallery import Gallery
from handclip_core.serving.model import Embeddings, ServedModel

LARGE = 100_000
"""Enrolled images from which faiss makes a short list, if it is installed and the model compares by cosine."""
QUERIES_A_PASS = 64

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """An enrolled identity, its score, and its image that scored so."""

    identity: str
    score: float
    image: str


def search(model: ServedModel, queries: Embeddings, gallery: Gallery, *, top: int) -> list[list[Candidate]]:
    """The ``top`` candidates for each of the queries [Q, W], best first."""
    if len(gallery.entries) >= LARGE and model.ranks_by_cosine and find_spec("faiss"):
        return [_ranked(model, query, gallery, columns, top) for query, columns in _short_lists(queries, gallery, top)]
    everything = np.arange(len(gallery.entries))
    if model.ranks_by_cosine:
        parts = (queries[start : start + QUERIES_A_PASS] for start in range(0, len(queries), QUERIES_A_PASS))
        rows = (row for part in parts for row in model.scores(part, gallery.embeddings))
        return [_candidates(row, row, gallery, everything, top) for row in rows]
    return [_ranked(model, query, gallery, everything, top) for query in queries[:, None]]


def _ranked(model: ServedModel, query: Embeddings, gallery: Gallery, columns: Ints, top: int) -> list[Candidate]:
    """The candidates for one query [1, W] among some entries."""
    chosen = gallery.embeddings[columns]
    ranks, scores = model.rank_scores(query, chosen)[0], model.scores(query, chosen)[0]
    return _candidates(ranks, scores, gallery, columns, top)


def _candidates(
    ranks: NDArray[np.float32], scores: NDArray[np.float32], gallery: Gallery, columns: Ints, top: int
) -> list[Candidate]:
    """By ``ranks`` [C] of the entries ``columns`` [C], which ascend and so stand in the order of identities."""
    found: list[Candidate] = []
    seen: set[str] = set()
    for place in np.argsort(-ranks, kind="stable"):
        entry = gallery.entries[columns[place]]
        if entry.identity not in seen:
            seen.add(entry.identity)
            found.append(Candidate(entry.identity, float(scores[place]), entry.image))
        if len(found) == top:
            break
    return found


def _short_lists(queries: Embeddings, gallery: Gallery, top: int) -> Iterator[tuple[Embeddings, Ints]]:
    """Each query [1, W] with enough of the entries nearest to it, ascending, that ``top`` identities are among them."""
    index = import_module("faiss").IndexFlatIP(gallery.embeddings.shape[1])
    index.add(gallery.embeddings)
    codes = np.searchsorted(gallery.starts, np.arange(len(gallery.entries)), side="right")
    wanted = min(top + 1, len(gallery.identities))
    for query in queries[:, None]:
        size = 4 * wanted
        while True:
            columns = np.sort(index.search(query, min(size, len(gallery.entries)))[1][0])
            if len(np.unique(codes[columns])) >= wanted:
                break
            size *= 4
        yield query, columns
