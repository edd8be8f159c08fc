"""What users hand in: odd types, ties, masks, and what has no answer."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handclip_core.errors import InputError
from handclip_core.evaluation.retrieval import RetrievalScores, embedding_scores, retrieval_scores


def same(left: RetrievalScores, right: RetrievalScores) -> None:
    for name in RetrievalScores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def test_strangers_as_similar_as_a_match_stand_before_it() -> None:
    scores = retrieval_scores(np.array([[0.5, 0.5, 0.9, 0.1]]), [7], [7, 8, 9, 10])
    assert scores.first_rank.tolist() == [3]
    assert scores.map == pytest.approx(1 / 3)
    assert scores.map_trapezoid == pytest.approx(1 / 6)
    several = retrieval_scores(np.array([[0.5, 0.5, 0.5, 0.9]]), [7], [7, 7, 8, 9])
    assert several.map == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert several.minp == pytest.approx(2 / 4)


def test_matches_that_tie_among_themselves_lose_nothing() -> None:
    assert retrieval_scores(np.array([[0.5, 0.5, 0.4]]), [7], [7, 7, 8]).map == 1.0


def test_a_collapsed_embedding_scores_lowest() -> None:
    scores = embedding_scores(np.ones((3, 4)), np.ones((6, 4)), [0, 1, 2], [0, 1, 2, 3, 4, 5])
    assert scores.first_rank.tolist() == [6, 6, 6]
    assert scores.cmc[4] == 0
    assert scores.cmc[5] == 1


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 30))
def test_order_of_the_input_never_changes_a_score(seed: int, levels: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, levels, (5, size)).astype(np.float32)
    query_ids, gallery_ids = rng.integers(0, 4, 5), rng.integers(0, 4, size)
    query_ids[0] = gallery_ids[0]
    rows, columns = rng.permutation(5), rng.permutation(size)
    plain = retrieval_scores(similarity, query_ids, gallery_ids)
    mixed = retrieval_scores(similarity[rows][:, columns], query_ids[rows], gallery_ids[columns])
    assert (mixed.map, mixed.map_trapezoid, mixed.minp) == (plain.map, plain.map_trapezoid, plain.minp)
    np.testing.assert_array_equal(mixed.ap, plain.ap[rows])
    np.testing.assert_allclose(mixed.ndcg, plain.ndcg, atol=1e-12)


def test_copies_of_a_image_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    person, strangers = rng.standard_normal((1, 512)), rng.standard_normal((900, 512))
    for place in range(0, 900, 113):
        gallery = np.insert(strangers, [place, 450], person, axis=0).astype(np.float32)
        ids = np.arange(902)
        ids[np.flatnonzero((gallery == person.astype(np.float32)).all(axis=1))] = [1000, 1001]
        scores = embedding_scores(person.astype(np.float32), gallery, [1000], ids)
        assert scores.first_rank.tolist() == [2]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64]
)
def test_every_type_of_similarity(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    whole = torch.from_numpy(rng.integers(-9, 9, (6, 30)))
    ids, gallery_ids = np.arange(6), rng.permutation(30) % 8
    expected = retrieval_scores(whole.double().numpy(), ids, gallery_ids)
    same(retrieval_scores(whole.to(dtype), ids, gallery_ids), expected)
    same(
        retrieval_scores(whole.to(dtype).T.contiguous().T, torch.from_numpy(ids).int(), gallery_ids.tolist()), expected
    )
    if dtype is not torch.bfloat16:
        strided = np.repeat(whole.to(dtype).numpy(), 2, axis=1)[:, ::2]
        same(retrieval_scores(strided, ids.astype(np.uint8), torch.from_numpy(gallery_ids)), expected)


def test_gradients_and_modes_do_not_matter() -> None:
    similarity = torch.rand(4, 9, requires_grad=True)
    scores = retrieval_scores(similarity * 2, torch.arange(4), torch.arange(9))
    same(scores, retrieval_scores(similarity.detach().numpy() * 2, np.arange(4), np.arange(9)))
    embeddings = torch.rand(4, 3, requires_grad=True)
    assert embedding_scores(embeddings, embeddings.detach().numpy(), np.arange(4), np.arange(4)).map > 0


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b", "c"],
        np.array(["a", "b", "c"], dtype=object),
        pd.Series(["a", "b", "c"]),
        np.array([b"a", b"b", b"c"]),
    ],
)
def test_identities_may_be_texts(ids: Any) -> None:
    assert retrieval_scores(np.eye(3), ids, ids).map == 1.0


@pytest.mark.parametrize(
    "ids", [[2**40, 1, 2], np.array([1, 2, 3], dtype=object), pd.Series([4, 5, 6]), torch.tensor([3, 1, 2])]
)
def test_identities_may_be_integers(ids: Any) -> None:
    assert retrieval_scores(np.eye(3), ids, ids).map == 1.0


@pytest.mark.parametrize(
    ("query_ids", "gallery_ids", "message"),
    [
        (["1"], [1, 2], "some identities are integers and some are texts"),
        ([1.0], [1, 2], "query_ids: identities are float64"),
        ([1], [True, False], "gallery_ids: identities are bool"),
        ([[1]], [1, 2], "need one dimension"),
        (np.array([None]), [1, 2], "found None"),
        (np.array([2**63], dtype=np.uint64), [1, 2], "does not fit"),
        ([1, 2], [1, 2], r"similarity is \[1, 2\], but there are 2 query"),
        ([], [1, 2], r"similarity is \[1, 2\], but there are 0 query"),
        ([3], [1, 2], "none of the 1 queries has a match"),
    ],
)
def test_identities_that_cannot_be_matched_are_named(query_ids: Any, gallery_ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrieval_scores(np.zeros((1, 2)), query_ids, gallery_ids)


def test_what_has_no_score_is_named() -> None:
    with pytest.raises(InputError, match="the gallery is empty"):
        retrieval_scores(np.zeros((2, 0)), [1, 2], [])
    with pytest.raises(InputError, match="there are no queries"):
        retrieval_scores(np.zeros((0, 2)), [], [1, 2])
    with pytest.raises(InputError, match="two dimensions"):
        retrieval_scores(np.zeros(2), [1], [1, 2])
    with pytest.raises(InputError, match="max_rank is 0"):
        retrieval_scores(np.zeros((1, 1)), [1], [1], max_rank=0)
    with pytest.raises(InputError, match="real numbers"):
        retrieval_scores(np.zeros((1, 1), dtype=complex), [1], [1])
    with pytest.raises(InputError, match="NaN"):
        retrieval_scores(torch.tensor([[torch.nan]]), [1], [1])


def test_infinite_similarities_have_a_rank() -> None:
    scores = retrieval_scores(np.array([[-np.inf, 0.0, np.inf], [-np.inf, -np.inf, 0.0]]), [1, 1], [1, 2, 3])
    assert scores.first_rank.tolist() == [3, 3]
    many = np.full((1, 40), -np.inf)
    assert retrieval_scores(many, [1], [1] * 20 + [2] * 20).minp == pytest.approx(0.5)


def test_a_mask_leaves_out_pairs_and_may_empty_a_query() -> None:
    similarity = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]])
    cameras, gallery_cameras = np.array([0, 1]), np.array([0, 1, 1])
    exclude = (cameras[:, None] == gallery_cameras) & (np.array([1, 2])[:, None] == np.array([1, 1, 2]))
    scores = retrieval_scores(similarity, [1, 2], [1, 1, 2], exclude=exclude)
    assert scores.num_unmatched == 1
    assert scores.first_rank.tolist() == [1, 0]
    assert scores.cmc[0] == 1
    same(retrieval_scores(similarity, [1, 2], [1, 1, 2], exclude=torch.from_numpy(exclude)), scores)
    with pytest.raises(InputError, match="'exclude' does not take out every match"):
        retrieval_scores(similarity, [1, 2], [1, 1, 2], exclude=np.ones((2, 3), dtype=bool))
    with pytest.raises(InputError, match="exclude is of type int64"):
        retrieval_scores(similarity, [1, 2], [1, 1, 2], exclude=exclude.astype(int))
    with pytest.raises(InputError, match=r"exclude is \[1, 3\]"):
        retrieval_scores(similarity, [1, 2], [1, 1, 2], exclude=exclude[:1])


def test_ranks_past_the_gallery_stay_at_the_last_value() -> None:
    scores = retrieval_scores(np.array([[0.1, 0.9]]), [1], [1, 2], max_rank=5)
    assert scores.cmc.tolist() == [0, 1, 1, 1, 1]
    assert scores.recall.tolist() == [0, 1, 1, 1, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_scores() -> None:
    rng = np.random.default_rng(2)
    similarity = torch.from_numpy(rng.integers(0, 50, (30, 500)).astype(np.float32))
    ids, gallery_ids = np.arange(30) % 20, rng.permutation(500) % 25
    exclude = rng.random((30, 500)) < 0.2
    expected = retrieval_scores(similarity, ids, gallery_ids, exclude=exclude)
    same(retrieval_scores(similarity.cuda(), torch.from_numpy(ids).cuda(), gallery_ids, exclude=exclude), expected)
