"""Searches against a plain loop: best images of people, ties by name, and a short list that changes nothing."""

import numpy as np
import pytest

from handclip_core.serving import search as module
from handclip_core.serving.gallery import About, Entry, Gallery
from handclip_core.serving.model import Embeddings, ServedModel, open_run
from handclip_core.serving.search import Candidate, search
from tests.handclip_core.serving.conftest import FinishedRun

pytestmark = pytest.mark.usefixtures("no_data")


@pytest.fixture
def model(finished: FinishedRun) -> ServedModel:
    return open_run(finished("full").folder)


def units(num: int, seed: int) -> Embeddings:
    """Vectors [num, 4] whose lengths and products are exact, so that many of them tie."""
    random = np.random.default_rng(seed)
    signs = random.choice([-1.0, 1.0], (num, 4)).astype(np.float32)
    axes = signs * np.eye(4, dtype=np.float32)[random.integers(0, 4, num)]
    found: Embeddings = np.where(random.random((num, 1)) < 0.5, axes, signs / 2)
    return found


def gallery_of(names: list[str], embeddings: Embeddings) -> Gallery:
    entries = tuple(Entry(name, f"{name}/{place:03}", str(place)) for place, name in enumerate(names))
    return Gallery(About(model="", run="", width=embeddings.shape[1]), entries, embeddings)


def by_hand(query: Embeddings, gallery: Gallery, top: int) -> list[Candidate]:
    scores = [float(query @ other) for other in gallery.embeddings]
    best: dict[str, Candidate] = {}
    for entry, score in zip(gallery.entries, scores, strict=True):
        if entry.identity not in best or score > best[entry.identity].score:
            best[entry.identity] = Candidate(entry.identity, score, entry.image)
    return sorted(best.values(), key=lambda one: (-one.score, one.identity))[:top]


@pytest.mark.parametrize("top", [1, 3, 99])
def test_a_search_ranks_people_by_their_best_image_and_ties_by_name(model: ServedModel, top: int) -> None:
    names = sorted(f"p{number % 6}" for number in range(40))
    gallery, queries = gallery_of(names, units(40, 0)), units(30, 1)
    for query, found in zip(queries, search(model, queries, gallery, top=top), strict=True):
        assert found == by_hand(query, gallery, top)


def test_copies_tie_whatever_their_place(model: ServedModel) -> None:
    embeddings = np.repeat(units(1, 5), 5, axis=0)
    found = search(model, units(1, 7), gallery_of(["a", "b", "c", "d", "e"], embeddings), top=5)[0]
    assert [one.identity for one in found] == ["a", "b", "c", "d", "e"]
    assert len({one.score for one in found}) == 1


def test_a_large_gallery_gives_the_same(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(3)
    vectors = random.normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery, queries = gallery_of(sorted(f"p{number % 20:02}" for number in range(200)), vectors), vectors[:10] + 0.0
    exact = search(model, queries, gallery, top=5)
    monkeypatch.setattr(module, "LARGE", 10)
    assert search(model, queries, gallery, top=5) == exact


def test_votes_rank_by_votes_and_score_by_cosine(finished: FinishedRun) -> None:
    run = finished("votes")
    model = open_run(run.folder)
    order = np.argsort(run.identities, kind="stable")
    gallery = gallery_of([run.identities[place] for place in order], run.embeddings[order])
    found = search(model, run.embeddings[:3], gallery, top=2)
    for query, candidates in zip(run.embeddings[:3], found, strict=True):
        votes = model.rank_scores(query[None], gallery.embeddings)[0]
        best = int(np.argmax(votes))
        assert candidates[0].identity == gallery.entries[best].identity
        assert candidates[0].score == pytest.approx(float(query @ gallery.embeddings[best]), abs=1e-5)
