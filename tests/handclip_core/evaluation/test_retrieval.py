import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.retrieval import embedding_scores, retrieval_scores

Array = NDArray[np.floating]


def slow_ranking(similarity: Array, query: int, query_ids: list[int], gallery_ids: list[int]) -> list[bool]:
    """True for each match in the ranking of one query, strangers first where similarities are equal."""
    entries = [(-similarity[query, g], gallery_ids[g] == query_ids[query]) for g in range(len(gallery_ids))]
    return [match for _, match in sorted(entries)]


def slow_scores(ranking: list[bool]) -> tuple[float, float, float, int]:
    """AP, trapezoid AP, INP and the first rank of one ranking, as the papers' own loops write them."""
    total, found, ap, trapezoid, first, last = sum(ranking), 0, 0.0, 0.0, 0, 0
    for position, match in enumerate(ranking):
        if match:
            before = found / position if position else 1.0
            found += 1
            first, last = first or position + 1, position + 1
            ap += found / (position + 1) / total
            trapezoid += (before + found / (position + 1)) / 2 / total
    return ap, trapezoid, total / last, first


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, list[int], list[int]]:
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    seed, levels = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 5, 10**9]))
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, levels, (num_queries, num_gallery)) / levels
    identities = draw(st.integers(1, 8))
    gallery_ids = rng.integers(0, identities, num_gallery).tolist()
    query_ids = [gallery_ids[0], *rng.integers(0, identities + 1, num_queries - 1).tolist()]
    return similarity, query_ids, gallery_ids


@settings(max_examples=300)
@given(cases())
def test_agrees_with_a_plain_loop(case: tuple[Array, list[int], list[int]]) -> None:
    similarity, query_ids, gallery_ids = case
    scores = retrieval_scores(similarity, query_ids, gallery_ids, max_rank=7)
    rankings = [slow_ranking(similarity, query, query_ids, gallery_ids) for query in range(len(query_ids))]
    matched = [query for query, ranking in enumerate(rankings) if any(ranking)]
    expected = np.array([slow_scores(rankings[query]) for query in matched])
    np.testing.assert_allclose(scores.ap[matched], expected[:, 0], atol=1e-12)
    np.testing.assert_allclose([scores.map, scores.map_trapezoid, scores.minp], expected[:, :3].mean(0), atol=1e-12)
    np.testing.assert_allclose(scores.cmc, [(expected[:, 3] <= k).mean() for k in range(1, 8)], atol=1e-12)
    recall = [np.mean([sum(rankings[q][:k]) / sum(rankings[q]) for q in matched]) for k in range(1, 8)]
    np.testing.assert_allclose(scores.recall, recall, atol=1e-12)
    assert scores.num_unmatched == len(query_ids) - len(matched)
    assert np.isnan(scores.ap).sum() == scores.num_unmatched


def test_many_matches_large_galleries_and_devices_take_the_same_ranks() -> None:
    rng = np.random.default_rng(0)
    for num_gallery, identities in [(60, 2), (5000, 900), (5000, 20)]:
        similarity = rng.integers(0, 40, (3, num_gallery)).astype(np.float32)
        gallery_ids = rng.integers(0, identities, num_gallery)
        query_ids = gallery_ids[:3]
        exclude = rng.random(similarity.shape) < 0.3
        kept = retrieval_scores(similarity, query_ids, gallery_ids, exclude=exclude)
        for query in range(3):
            keep = ~exclude[query]
            ids = gallery_ids[keep].tolist()
            ranking = slow_ranking(similarity[query : query + 1, keep], 0, [int(query_ids[query])], ids)
            assert kept.ap[query] == pytest.approx(slow_scores(ranking)[0], abs=1e-12)


def test_nan_is_refused_wherever_it_counts() -> None:
    similarity = np.array([[0.1, np.nan]])
    with pytest.raises(InputError, match="NaN"):
        retrieval_scores(similarity, [1], [1, 2])
    assert retrieval_scores(similarity, [1], [1, 2], exclude=np.isnan(similarity)).map == 1.0


def test_embeddings_agree_with_the_whole_matrix() -> None:
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((7, 5)), rng.standard_normal((50, 5))
    ids, gallery_ids = np.arange(7), np.arange(50) % 9
    unit_query = query / np.linalg.norm(query, axis=1, keepdims=True)
    unit_gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    whole = retrieval_scores(unit_query @ unit_gallery.T, ids, gallery_ids)
    chunked = embedding_scores(query, torch.from_numpy(gallery), ids, gallery_ids)
    np.testing.assert_allclose(chunked.ap, whole.ap)
