"""Embeddings side by side order pairs as the weighted sum of the models' scores does."""

import numpy as np
import pytest
import torch
from torch import Tensor

from handclip_core.evaluation.fusion import ScoreFusion, vote
from handclip_core.evaluation.joined import FusedBy, Joined
from handclip_core.evaluation.similarity import cosine

WIDTHS = (3, 7)


def vectors(num: int, seed: int) -> list[Tensor]:
    """What two models make of images, of unlike length."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(num, width, generator=random) * scale for width, scale in zip(WIDTHS, (1, 100), strict=True)]


def joined(by: FusedBy, fusion: ScoreFusion, own: tuple[object, ...] = (None, None)) -> Joined:
    return Joined(by, fusion, WIDTHS, own, own)  # type: ignore[arg-type]


def test_the_cosine_of_features_is_the_weighted_mean_of_cosines() -> None:
    both = joined(FusedBy.FEATURE, ScoreFusion.of_cosines((0.8, 0.2)))
    queries, gallery = vectors(5, 0), vectors(4, 1)
    expected = 0.8 * cosine(queries[0], gallery[0]) + 0.2 * cosine(queries[1], gallery[1])
    np.testing.assert_allclose(cosine(both.join(queries), both.join(gallery)), expected, atol=1e-6)
    np.testing.assert_allclose(both.join(queries).norm(dim=1), 1, atol=1e-6)
    assert both.similarity is None is both.pairwise_similarity


def test_the_cosine_of_scores_is_in_the_order_of_their_standardised_sum() -> None:
    fusion = ScoreFusion((0.3, 0.7), (0.1, -0.2), (0.5, 0.02))
    both = joined(FusedBy.SCORE, fusion)
    queries, gallery = vectors(6, 2), vectors(50, 3)
    summed = fusion([cosine(left, right).numpy() for left, right in zip(queries, gallery, strict=True)])
    found = cosine(both.join(queries), both.join(gallery)).double().numpy()
    slope, shift = np.polyfit(found.ravel(), summed.ravel(), 1)
    assert slope > 0
    np.testing.assert_allclose(slope * found + shift, summed, atol=1e-4)


def test_a_model_with_a_score_of_its_own_keeps_it() -> None:
    def product(left: Tensor, right: Tensor) -> Tensor:
        return 3 * cosine(left, right) ** 3

    fusion = ScoreFusion((0.25, 0.75), (0.1, 0.3), (0.5, 2.0))
    both = joined(FusedBy.SCORE, fusion, (product, None))
    queries, gallery = vectors(3, 4), vectors(4, 5)
    expected = 0.25 * (product(queries[0], gallery[0]) - 0.1) / 0.5 + 0.75 * (cosine(queries[1], gallery[1]) - 0.3) / 2
    assert both.similarity is not None
    np.testing.assert_allclose(both.similarity(both.join(queries), both.join(gallery)), expected, atol=1e-5)


def test_votes_rank_and_the_sum_of_scores_decides() -> None:
    fusion = ScoreFusion((0.5, 0.5), (0.0, 0.0), (1.0, 2.0))
    both = joined(FusedBy.VOTE, fusion)
    queries, gallery = vectors(3, 6), vectors(9, 7)
    each = [cosine(left, right).numpy() for left, right in zip(queries, gallery, strict=True)]
    sides = both.join(queries), both.join(gallery)
    assert both.similarity is not None
    assert both.pairwise_similarity is not None
    np.testing.assert_array_equal(both.similarity(*sides), vote(each))
    np.testing.assert_allclose(both.pairwise_similarity(*sides), fusion(each), atol=1e-6)


@pytest.mark.parametrize("by", [FusedBy.FEATURE, FusedBy.SCORE])
def test_a_model_without_weight_says_nothing(by: FusedBy) -> None:
    both = joined(by, ScoreFusion((1.0, 0.0), (0.0, 0.0), (0.5, 0.1)))
    queries, gallery = vectors(3, 8), vectors(4, 9)
    np.testing.assert_allclose(
        cosine(both.join(queries), both.join(gallery)), cosine(queries[0], gallery[0]), atol=1e-6
    )
