import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from handclip_core.errors import InputError
from handclip_core.evaluation.verification import (
    PairScores,
    area_under_roc,
    d_prime,
    det_points,
    equal_error_rate,
    error_curve,
    gallery_pair_scores,
    pair_scores,
    tar_at_far,
    threshold_at,
    verification_scores,
)


@st.composite
def pairs(draw: st.DrawFn) -> PairScores:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 7, 10**6]))
    genuine = rng.integers(0, levels, draw(st.integers(1, 40))) + draw(st.integers(0, 3))
    impostor = rng.integers(0, levels, draw(st.integers(1, 60)))
    return PairScores(genuine.astype(np.float64), impostor.astype(np.float64))


def labelled(scores: PairScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    labels = np.concatenate([np.ones(len(scores.genuine)), np.zeros(len(scores.impostor))])
    return labels, np.concatenate([scores.genuine, scores.impostor])


@settings(max_examples=150)
@given(pairs())
def test_curve_and_area_of_scikit_learn(scores: PairScores) -> None:
    far, tar, thresholds = roc_curve(*labelled(scores), drop_intermediate=False)
    curve = error_curve(scores)
    np.testing.assert_allclose(curve.far, far, atol=1e-9)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-9)
    np.testing.assert_array_equal(curve.threshold, thresholds)
    assert area_under_roc(scores) == pytest.approx(roc_auc_score(*labelled(scores)), abs=1e-9)


@settings(max_examples=150)
@given(pairs())
def test_equal_error_rate_lies_on_the_curve(scores: PairScores) -> None:
    far, tar, _ = roc_curve(*labelled(scores), drop_intermediate=False)
    rate = equal_error_rate(scores)
    grid = np.linspace(0, 1, 20001)
    along = np.linspace(0, len(far) - 1, 20001)
    gaps = np.interp(along, range(len(far)), far) - (1 - np.interp(along, range(len(far)), tar))
    nearest = int(np.argmin(np.abs(gaps)))
    assert rate == pytest.approx(np.interp(along[nearest], range(len(far)), far), abs=5e-3)
    assert 0 <= rate <= 1
    assert grid[0] <= rate


def test_equal_error_rate_by_hand() -> None:
    assert equal_error_rate(PairScores(np.array([0.9, 0.8]), np.array([0.1, 0.2]))) == 0
    assert equal_error_rate(PairScores(np.array([0.1, 0.2]), np.array([0.9, 0.8]))) == 1
    assert equal_error_rate(PairScores(np.array([0.5]), np.array([0.5]))) == 0.5
    assert equal_error_rate(PairScores(np.array([0.9, 0.3]), np.array([0.4, 0.1]))) == 0.5


def test_d_prime_by_hand() -> None:
    assert d_prime(PairScores(np.array([4.0, 6.0]), np.array([0.0, 2.0]))) == pytest.approx(4)
    assert d_prime(PairScores(np.array([1.0]), np.array([0.0]))) == math.inf
    assert d_prime(PairScores(np.array([1.0]), np.array([1.0]))) == 0


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 50, 10**6]), st.floats(0.02, 0.9))
def test_threshold_is_the_lowest_that_keeps_the_rate(seed: int, levels: int, rate: float) -> None:
    impostor = np.random.default_rng(seed).integers(0, levels, 300).astype(np.float32)
    threshold = threshold_at(impostor, rate)
    assert np.mean(impostor.astype(np.float64) >= threshold) <= rate + 1e-9
    below = impostor[impostor < threshold]
    assert below.size == 0 or np.mean(impostor >= below.max()) > rate - 1e-9


def test_as_many_are_accepted_as_the_rate_says() -> None:
    threshold = threshold_at(np.arange(100), 0.29)
    assert np.sum(np.arange(100) >= threshold) == 29


def test_thresholds_are_those_of_validation() -> None:
    rng = np.random.default_rng(0)
    validation = PairScores(rng.normal(2, 1, 500), rng.normal(0, 1, 40_000))
    test = PairScores(rng.normal(2, 1, 500), rng.normal(0.5, 1, 40_000))
    point = tar_at_far(test, validation, 1e-3)
    assert np.mean(validation.impostor >= point.threshold) == pytest.approx(1e-3)
    assert point.tar == np.mean(test.genuine >= point.threshold)
    assert point.far_measured > 2e-3
    assert not point.rough
    shifted = PairScores(test.genuine, test.impostor + 100)
    assert tar_at_far(shifted, validation, 1e-3).threshold == point.threshold


def test_single_precision_scores_do_not_slip_over_the_threshold() -> None:
    impostor = np.linspace(0, 0.7, 3000, dtype=np.float32)
    point = tar_at_far(PairScores(impostor, impostor), PairScores(impostor, impostor), 0.01)
    assert point.far_measured == point.tar == pytest.approx(0.01)


def test_rates_that_the_pairs_cannot_support_are_refused_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    validation = PairScores(rng.normal(2, 1, 500), rng.normal(0, 1, 2_999))
    test = PairScores(rng.normal(2, 1, 500), rng.normal(0, 1, 40_000))
    scores = verification_scores(test, validation)
    assert [point.far for point in scores.points] == [1e-2]
    assert scores.points[0].rough
    assert [refusal.far for refusal in scores.refused] == [1e-3, 1e-4]
    assert "at least 3000 impostor pairs in validation" in scores.refused[0].reason
    assert "there are 2999" in scores.refused[0].reason
    with pytest.raises(InputError, match="impostor pairs in the test"):
        tar_at_far(validation, test, 1e-3)
    with pytest.raises(InputError, match="between 0 and 1"):
        tar_at_far(test, test, 0.0)
    assert tar_at_far(PairScores(test.genuine, test.impostor[:3000]), test, 1e-3).expected_errors == pytest.approx(3)


def test_points_for_plotting_lie_on_the_curve() -> None:
    rng = np.random.default_rng(1)
    scores = PairScores(rng.normal(2, 1, 200), rng.normal(0, 1, 5000))
    few, curve = det_points(scores, num=20), error_curve(scores)
    assert 10 < len(few.far) <= 20
    assert few.far[0] == pytest.approx(1 / 5000)
    assert few.far[-1] == 1
    places = [curve.threshold.tolist().index(threshold) for threshold in few.threshold]
    np.testing.assert_allclose(few.tar, curve.tar[places])
    np.testing.assert_allclose(few.frr, 1 - curve.tar[places])


def test_pairs_of_images() -> None:
    embeddings = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 1]], requires_grad=True)
    scores = pair_scores(embeddings, ["a", "a", "b", "b"])
    assert scores.genuine.tolist() == pytest.approx([1, math.sqrt(0.5)])
    assert sorted(scores.impostor.tolist()) == pytest.approx([0, 0, math.sqrt(0.5), math.sqrt(0.5)])
    grouped = pair_scores(embeddings, [1, 1, 2, 2], groups=["x", "x", "x", "y"])
    assert (len(grouped.genuine), len(grouped.impostor)) == (1, 2)
    matrix = gallery_pair_scores(np.array([[0.1, 0.2, 0.3]]), [1], [1, 2, 1])
    assert (matrix.genuine.tolist(), matrix.impostor.tolist()) == ([0.1, 0.3], [0.2])


def test_pairs_that_are_missing_are_named() -> None:
    with pytest.raises(InputError, match="no genuine pairs"):
        pair_scores(np.eye(3), [1, 2, 3])
    with pytest.raises(InputError, match="no impostor pairs"):
        pair_scores(np.eye(3), [1, 1, 1])
    with pytest.raises(InputError, match="genuine pairs is NaN"):
        PairScores(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(InputError, match="3 embeddings, 2 identities"):
        pair_scores(np.eye(3), [1, 1])
    with pytest.raises(InputError, match="1 query and 2 gallery ids"):
        gallery_pair_scores(np.zeros((1, 3)), [1], [1, 2])
