"""Thresholds from pairs, against plain loops."""

import numpy as np
import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation import thresholds as module
from handclip_core.evaluation.similarity import cosine
from handclip_core.evaluation.thresholds import Threshold, Thresholds, fit_thresholds
from handclip_core.evaluation.verification import pair_scores, threshold_at


def people(num: int, images: int, seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    """Unit vectors around a direction a person, whose they are, and one of two aspects."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(num, 8))
    vectors = np.repeat(centres, images, axis=0) + 0.5 * random.normal(size=(num * images, 8))
    who = [f"p{place // images}" for place in range(num * images)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), who, ["ab"[place % 2] for place in range(len(who))]


def test_a_threshold_is_that_of_verification_and_lies_in_its_interval() -> None:
    vectors, who, aspects = people(12, 6)
    pairs = pair_scores(vectors, who, groups=aspects)
    found = fit_thresholds(vectors, who, aspects)
    assert [point.far for point in found.points] == [0.1, 0.01]
    assert [reason.split(":")[0] for reason in found.refused] == ["0.001", "0.0001"]
    assert (found.num_genuine, found.num_impostor) == (len(pairs.genuine), len(pairs.impostor))
    for point in found.points:
        assert point.value == threshold_at(pairs.impostor, point.far)
        assert point.tar == np.mean(pairs.genuine >= point.value)
        assert point.low <= point.value <= point.high
        assert point.low < point.high


def test_resamples_count_pairs_as_often_as_both_people_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 5)
    vectors, who, aspects = people(9, 4, seed=2)
    codes = np.unique(who, return_inverse=True)[1]
    groups = np.unique(aspects, return_inverse=True)[1]
    pairs = module._pairs(torch.from_numpy(vectors), codes, groups, cosine)
    found = module._resampled(pairs, [0.1, 0.02], np.random.default_rng(7))
    random = np.random.default_rng(7)
    for number in range(5):
        drawn = random.choice(np.arange(9), 9).tolist()
        scores = [
            score
            for score, left, right in zip(pairs.impostor, pairs.left, pairs.right, strict=True)
            for _ in range(drawn.count(left) * drawn.count(right))
        ]
        for place, far in enumerate((0.1, 0.02)):
            assert found[place, number] == scores[int(far * len(scores) + 1e-9)]


def test_more_images_than_fit_leave_out_whole_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 30)
    vectors, who, aspects = people(12, 6)
    assert fit_thresholds(vectors, who, aspects).num_identities == 5


def test_people_without_pairs_give_no_threshold() -> None:
    vectors, who, _ = people(4, 1)
    found = fit_thresholds(vectors, who, ["a"] * 4)
    assert (found.points, len(found.refused)) == ((), 1)


def test_a_rate_without_a_threshold_is_refused_with_the_reason() -> None:
    point = Threshold(far=0.01, value=0.5, low=0.4, high=0.6, tar=1.0)
    found = Thresholds(points=(point,), refused=("0.001: too few",))
    assert found.at(None) == found.at(0.01) == point
    with pytest.raises(InputError, match=r"--far 0.001: .* there are 0.01 \(0.001: too few\)"):
        found.at(0.001)
