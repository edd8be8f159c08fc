from typing import Any

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.fusion import ValidationSet, equal_score_fusion, fit_score_fusion, search_weights, vote
from handclip_core.evaluation.retrieval import retrieval_scores


def problem(
    seed: int, noises: tuple[float, ...]
) -> tuple[list[np.ndarray[Any, np.dtype[np.float64]]], list[int], list[int]]:
    """Similarities of models that are as noisy as said, to the truth that query i matches gallery i."""
    rng = np.random.default_rng(seed)
    truth = np.eye(60)
    return [truth + noise * rng.standard_normal((60, 60)) for noise in noises], list(range(60)), list(range(60))


def test_fitted_weights_beat_equal_ones_on_unseen_data() -> None:
    noises = (0.25, 0.9)
    fusion = fit_score_fusion([ValidationSet(*problem(seed, noises)) for seed in range(3)])
    assert fusion.weights[0] > 0.6
    assert sum(fusion.weights) == pytest.approx(1)
    matrices, query_ids, gallery_ids = problem(9, noises)
    fused = retrieval_scores(fusion(matrices), query_ids, gallery_ids).map
    assert fused >= retrieval_scores(matrices[0], query_ids, gallery_ids).map - 0.01
    assert fused > retrieval_scores(matrices[0] + matrices[1], query_ids, gallery_ids).map


def test_models_of_unlike_scale_are_brought_to_one() -> None:
    matrices, query_ids, gallery_ids = problem(1, (0.3, 0.3))
    plain = fit_score_fusion([ValidationSet(matrices, query_ids, gallery_ids)])
    scaled = fit_score_fusion([ValidationSet([matrices[0] * 1000 + 7, matrices[1]], query_ids, gallery_ids)])
    assert scaled.weights == plain.weights
    assert scaled.map == plain.map
    np.testing.assert_allclose(scaled([matrices[0] * 1000 + 7, matrices[1]]), plain(matrices), atol=1e-9)


def test_a_useless_model_gets_no_weight_and_three_can_be_fused() -> None:
    matrices, query_ids, gallery_ids = problem(2, (0.3, 50.0, 0.3))
    fusion = fit_score_fusion([ValidationSet(matrices, query_ids, gallery_ids)])
    assert fusion.weights[1] < 0.1
    assert min(fusion.weights[0], fusion.weights[2]) > 0.1
    assert fusion.map > retrieval_scores(matrices[0], query_ids, gallery_ids).map


def test_votes_by_hand() -> None:
    models = [np.array([[0.9, 0.1, 0.0]]), np.array([[0.5, 0.6, 0.0]]), np.array([[0.2, 0.3, 0.9]])]
    votes = vote(models)
    assert np.floor(votes).tolist() == [[1, 1, 1]]
    assert np.argsort(-votes[0]).tolist() == [1, 0, 2]
    assert np.floor(vote([*models, models[2]])[0]).tolist() == [1, 1, 2]
    assert vote([np.zeros((1, 4))])[0].tolist() == vote([np.ones((1, 4))])[0].tolist()


def test_votes_do_not_depend_on_order() -> None:
    rng = np.random.default_rng(3)
    models = [rng.integers(0, 3, (4, 9)).astype(float) for _ in range(3)]
    order = rng.permutation(9)
    np.testing.assert_allclose(vote([model[:, order] for model in models[::-1]]), vote(models)[:, order])


def test_what_cannot_be_fused_is_named() -> None:
    one, two = np.ones((2, 3)), np.ones((2, 4))
    with pytest.raises(InputError, match="one shape"):
        vote([one, two])
    with pytest.raises(InputError, match="0 models"):
        vote([])
    with pytest.raises(InputError, match="NaN"):
        vote([np.full((1, 1), np.nan)])
    with pytest.raises(InputError, match="without a validation set"):
        fit_score_fusion([])
    fitted = fit_score_fusion([ValidationSet(*problem(4, (0.3, 0.3)))])
    with pytest.raises(InputError, match="similarities of 1 models were given, 2 are needed"):
        fitted([one])


def test_the_best_of_a_grid_is_found_and_of_equals_the_most_equal() -> None:
    assert search_weights(2, lambda weights: -((weights[0] - 0.35) ** 2))[0] == pytest.approx((0.35, 0.65))
    assert search_weights(2, lambda weights: float(weights[0] >= 0.7))[0] == pytest.approx((0.7, 0.3))
    assert search_weights(2, lambda weights: float(weights[0] <= 0.3))[0] == pytest.approx((0.3, 0.7))
    assert search_weights(3, lambda _: 1.0)[0] == pytest.approx((1 / 3,) * 3)
    peak = np.array([0.6, 0.3, 0.1])
    weights, best = search_weights(3, lambda weights: -float(np.abs(np.array(weights) - peak).sum()))
    assert best == pytest.approx(-float(np.abs(np.array(weights) - peak).sum()))
    assert best > -0.05


def test_without_one_scale_scores_are_added_as_they_are() -> None:
    matrices, query_ids, gallery_ids = problem(5, (0.3, 0.3))
    fusion = fit_score_fusion([ValidationSet(matrices, query_ids, gallery_ids)], standardise=False)
    assert fusion.means == (0.0, 0.0)
    np.testing.assert_allclose(
        fusion(matrices), fusion.weights[0] * matrices[0] + fusion.weights[1] * matrices[1], atol=1e-12
    )
    equal = equal_score_fusion([ValidationSet([matrices[0] * 9 + 4, matrices[1]], query_ids, gallery_ids)])
    assert equal.weights == (0.5, 0.5)
    off = ~np.eye(60, dtype=bool)
    assert equal.means[0] == pytest.approx((matrices[0] * 9 + 4)[off].mean())
    assert equal.deviations[0] == pytest.approx(9 * matrices[0][off].std())


def test_a_model_that_has_collapsed_is_not_blown_up() -> None:
    matrices, query_ids, gallery_ids = problem(6, (0.3, 0.3))
    collapsed = 1 - 1e-7 * matrices[1]
    fusion = fit_score_fusion([ValidationSet([matrices[0], collapsed], query_ids, gallery_ids)])
    assert fusion.deviations[1] == 1.0
