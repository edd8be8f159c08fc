from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.rerank import expand_queries, k_reciprocal
from handclip_core.evaluation.retrieval import embedding_scores, retrieval_scores

Array = NDArray[np.float64]


def slow_k_reciprocal(query: Array, gallery: Array, k1: int, k2: int, share: float) -> Array:
    """The algorithm of the paper set by set, for distances without ties; returns distances [Q, G]."""
    rows = np.concatenate([query, gallery])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distance = ((rows[:, None] - rows) ** 2).sum(axis=2)
    distance = distance / distance.max(axis=1, keepdims=True)
    ranking = np.argsort(distance, axis=1)

    def near(i: int, k: int) -> set[int]:
        return set(ranking[i, : k + 1].tolist())

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in near(i, k) if i in near(j, k)}

    weights = np.zeros_like(distance)
    for i in range(len(rows)):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            half = reciprocal(j, round(k1 / 2))
            if len(half & members) > 2 / 3 * len(half):
                expanded |= half
        for j in expanded:
            weights[i, j] = np.exp(-distance[i, j])
        weights[i] /= weights[i].sum()
    weights = np.array([weights[ranking[i, :k2]].mean(axis=0) for i in range(len(rows))])
    final = np.zeros((len(query), len(gallery)))
    for i in range(len(query)):
        for g in range(len(gallery)):
            j = len(query) + g
            smaller = np.minimum(weights[i], weights[j]).sum()
            larger = np.maximum(weights[i], weights[j]).sum()
            final[i, g] = (1 - share) * (1 - smaller / larger) + share * distance[i, j]
    return final


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 1.0), (1, 2, 0.5)])
def test_re_ranking_agrees_with_the_algorithm_set_by_set(k1: int, k2: int, share: float) -> None:
    rng = np.random.default_rng(k1)
    query, gallery = rng.standard_normal((12, 5)), rng.standard_normal((40, 5))
    expected = -slow_k_reciprocal(query, gallery, k1, k2, share)
    np.testing.assert_allclose(k_reciprocal(query, gallery, k1=k1, k2=k2, original_share=share), expected, atol=1e-5)


def clusters() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((15, 16))
    query, gallery = np.repeat(centres, 3, axis=0), np.repeat(centres, 6, axis=0)
    noisy = [part + 1.5 * rng.standard_normal(part.shape) for part in (query, gallery)]
    return *noisy, np.repeat(np.arange(15), 3), np.repeat(np.arange(15), 6)


def test_both_help_where_the_gallery_holds_several_images_a_person() -> None:
    query, gallery, query_ids, gallery_ids = clusters()
    plain = embedding_scores(query, gallery, query_ids, gallery_ids).map
    ranked = retrieval_scores(k_reciprocal(query, gallery, k1=8, k2=3), query_ids, gallery_ids).map
    expanded = embedding_scores(expand_queries(query, gallery), gallery, query_ids, gallery_ids).map
    assert ranked > plain + 0.03
    assert expanded > plain + 0.02


def test_re_ranking_does_not_depend_on_order_and_survives_copies() -> None:
    query, gallery, *_ = clusters()
    gallery = np.concatenate([gallery, gallery[:9]])
    order = np.random.default_rng(1).permutation(len(gallery))
    plain, mixed = k_reciprocal(query, gallery), k_reciprocal(query, gallery[order])
    np.testing.assert_allclose(mixed, plain[:, order], atol=1e-6)
    assert torch.isfinite(k_reciprocal(np.ones((2, 3)), np.ones((4, 3)))).all()
    assert k_reciprocal(query[:1], gallery[:1]).shape == (1, 1)


def test_expansion_by_hand() -> None:
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    expected = torch.tensor([[1 + 0.6**2 * 0.6, 0.6**2 * 0.8]])
    expected /= expected.norm()
    np.testing.assert_allclose(expand_queries(query, gallery, k=1, alpha=2), expected, atol=1e-6)
    np.testing.assert_allclose(expand_queries(query, gallery, k=9, alpha=2), expected, atol=1e-6)


def test_settings_out_of_range_are_named() -> None:
    one = np.ones((1, 2))
    with pytest.raises(InputError, match="k1 0"):
        k_reciprocal(one, one, k1=0)
    with pytest.raises(InputError, match=r"share 1\.5"):
        k_reciprocal(one, one, original_share=1.5)
    with pytest.raises(InputError, match="k is 0"):
        expand_queries(one, one, k=0)
    with pytest.raises(InputError, match="gallery is empty"):
        expand_queries(one, np.ones((0, 2)))
