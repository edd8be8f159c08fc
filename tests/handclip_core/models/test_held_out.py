"""What held-out training identities choose, against slow loops."""

from itertools import product

import numpy as np
import pytest

from handclip_core.evaluation.retrieval import retrieval_scores
from handclip_core.models.held_out import MOST_IMAGES, NUM_FOLDS, HeldOut, Scores

RNG = np.random.default_rng(0)
IDENTITIES = RNG.integers(12, size=70)
LABELS = IDENTITIES * 2 + RNG.integers(2, size=70)


def scores_of(held_out: HeldOut, noise: float, seed: int) -> list[Scores]:
    """How alike images are to something that sees their classes the less, the more noise there is."""
    rng = np.random.default_rng(seed)
    found = []
    for fold in held_out.folds:
        who = LABELS[fold.held_out]
        found.append(((who[:, None] == who) + noise * rng.normal(size=(len(who), len(who)))).astype(np.float32))
    return found


def test_no_identity_lies_in_two_folds_and_every_image_is_held_out_once() -> None:
    folds = HeldOut(LABELS, IDENTITIES).folds
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(70))
    for fold in folds:
        assert sorted([*fold.known, *fold.held_out]) == list(range(70))
        assert not set(IDENTITIES[fold.known]) & set(IDENTITIES[fold.held_out])
    assert [len(set(IDENTITIES[fold.held_out])) for fold in folds] == [4, 4, 4]


def test_of_many_images_whole_identities_are_looked_at() -> None:
    identities = np.repeat(np.arange(500), 7)
    folds = HeldOut(identities, identities).folds
    looked_at = np.concatenate([fold.held_out for fold in folds])
    assert MOST_IMAGES - 7 < len(looked_at) <= MOST_IMAGES
    assert set(np.unique(identities[looked_at], return_counts=True)[1]) == {7}
    assert {len(fold.known) + len(fold.held_out) for fold in folds} == {len(looked_at)}


@pytest.mark.parametrize("num", [1, 2])
def test_fewer_identities_than_folds_leave_folds_empty(num: int) -> None:
    identities = np.arange(10) % num
    held_out = HeldOut(identities, identities)
    assert sum(len(fold.held_out) for fold in held_out.folds) == 10
    scores = [np.zeros((len(fold.held_out), len(fold.held_out)), np.float32) for fold in held_out.folds]
    assert 0 < held_out.quality(scores) <= 1


def test_quality_is_the_mean_over_folds() -> None:
    held_out = HeldOut(LABELS, IDENTITIES)
    scores = scores_of(held_out, 0.5, seed=1)
    expected = 0.0
    for fold, found in zip(held_out.folds, scores, strict=True):
        who = LABELS[fold.held_out]
        expected += retrieval_scores(found, who, who, exclude=np.eye(len(who), dtype=bool)).map / NUM_FOLDS
    assert held_out.quality(scores) == pytest.approx(expected)


def test_shares_are_those_of_a_greedy_selection() -> None:
    held_out = HeldOut(LABELS, IDENTITIES)
    vectors = [scores_of(held_out, noise, seed) for seed, noise in enumerate((0.6, 0.6, 0.9, 50.0))]
    shares = held_out.shares(vectors)
    assert sum(shares) == pytest.approx(1)
    assert shares[3] == 0  # nothing but noise

    def together(weights: tuple[int, ...]) -> float:
        summed = [sum(w * one for w, one in zip(weights, found, strict=True)) for found in zip(*vectors, strict=True)]
        return held_out.quality(summed)

    weights: tuple[int, ...] = (0, 0, 0, 0)
    best = -1.0
    while True:
        more = [tuple(w + (place == at) for place, w in enumerate(weights)) for at in range(4)]
        found = max(more, key=together)
        if together(found) <= best:
            break
        weights, best = found, together(found)
    assert shares == pytest.approx([w / sum(weights) for w in weights])
    assert best > max(held_out.quality(found) for found in vectors)
    assert best >= max(together(each) for each in product((0, 1), repeat=4) if any(each)) - 0.01
