import numpy as np
import pytest

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation.open_set import Probes, open_set_probes, open_set_scores, probes


def test_searches_by_hand() -> None:
    mated = np.array([[0.9, 0.1], [0.8, 0.3], [0.5, 0.5]])
    found = probes(mated, ["a", "b", "a"], ["a", "b"], np.array([[0.2, 0.4]]))
    assert found.mated.tolist() == [0.9, -np.inf, -np.inf]
    assert found.unmated.tolist() == [0.4]


def test_rates_use_the_threshold_of_validation() -> None:
    validation = Probes(np.ones(1), np.linspace(0, 1, 300))
    test = Probes(np.array([0.5, 0.995, 1.0, -np.inf]), np.concatenate([np.zeros(297), np.ones(3)]))
    scores = open_set_scores(test, validation, fpir=1e-2)
    assert np.mean(validation.unmated >= scores.threshold) == pytest.approx(1e-2)
    assert scores.tpir == 0.5
    assert scores.fpir_measured == pytest.approx(1e-2)
    assert (scores.num_mated, scores.num_unmated) == (4, 300)
    with pytest.raises(InputError, match="at least 300 searches of identities outside the gallery, in the test"):
        open_set_scores(Probes(test.mated, test.unmated[:299]), validation, fpir=1e-2)
    with pytest.raises(InputError, match="in validation"):
        open_set_scores(test, Probes(test.mated, test.unmated[:299]), fpir=1e-2)


def test_people_are_left_out_of_every_aspect_of_a_draw() -> None:
    rng = np.random.default_rng(0)
    people, aspects = 10, ("dorsal right", "palmar right")
    centres = rng.standard_normal((people, 16))
    keys = [(person, aspect) for aspect in range(2) for person in range(people) for _ in range(3)]
    embeddings = np.array([centres[person] for person, _ in keys]) + 0.01 * rng.standard_normal((len(keys), 16))
    gallery = {name: tuple(range(30 * i, 30 * i + 30, 3)) for i, name in enumerate(aspects)}
    query = {name: tuple(r for r in range(30 * i, 30 * i + 30) if r % 3) for i, name in enumerate(aspects)}
    draws = [GallerySplit(gallery=gallery, query=query)] * 4
    identities = [f"p{person}" for person, _ in keys]
    found = open_set_probes(embeddings, np.arange(60), draws, identities, share=0.3)
    assert (len(found.unmated), len(found.mated)) == (4 * 3 * 2 * 2, 4 * 7 * 2 * 2)
    assert found.mated.min() > 0.99
    assert found.unmated.max() < 0.95
    with pytest.raises(InputError, match="needs queries of identities in the gallery"):
        open_set_probes(embeddings, np.arange(60), draws, identities, share=0.0)
    with pytest.raises(InputError, match="needs queries of identities in the gallery"):
        open_set_probes(embeddings, np.arange(60), draws, identities, share=1.0)


def test_distractors_are_the_people_who_are_not_enrolled() -> None:
    rng = np.random.default_rng(0)
    embeddings = np.repeat(rng.standard_normal((8, 16)), 3, axis=0) + 0.01 * rng.standard_normal((24, 16))
    gallery, query = tuple(range(0, 15, 3)), tuple(row for row in range(15) if row % 3)
    distractors = range(15, 24)
    draws = [GallerySplit(gallery={"unknown": (*gallery, *distractors)}, query={"unknown": query})] * 2
    found = open_set_probes(embeddings, np.arange(24), draws, np.arange(24) // 3, distractors=distractors)
    assert (len(found.mated), len(found.unmated)) == (2 * 10, 2 * 9)
    assert found.mated.min() > 0.99
    assert found.unmated.max() < 0.95


def test_what_cannot_be_searched_is_named() -> None:
    with pytest.raises(InputError, match="query 1 has no match in the gallery"):
        probes(np.ones((2, 2)), [1, 9], [1, 2], np.ones((1, 2)))
    with pytest.raises(InputError, match="NaN"):
        probes(np.full((1, 2), np.nan), [1], [1, 2], np.ones((1, 2)))
    with pytest.raises(InputError, match="NaN"):
        probes(np.ones((1, 2)), [1], [1, 2], np.full((1, 2), np.nan))
    with pytest.raises(InputError, match="for 1 queries with a match and a gallery of 2"):
        probes(np.ones((1, 2)), [1], [1, 2], np.ones((1, 3)))
    with pytest.raises(InputError, match="needs a gallery"):
        probes(np.ones((1, 2)), [1], [1, 2], np.ones((0, 2)))
