"""Retrieval scores beside those of other people's libraries, on random cases without ties across identities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.retrieval import RetrievalMAP, RetrievalRecall

from handclip_core.evaluation.retrieval import embedding_scores, retrieval_scores

Case = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


@st.composite
def without_ties(draw: st.DrawFn) -> Case:
    """Similarities that all differ, above 0 since torchmetrics drops other matches; every query has a match."""
    num_queries, num_gallery = draw(st.integers(1, 8)), draw(st.integers(2, 50))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = num_queries * num_gallery
    values = (rng.permutation(size).reshape(num_queries, num_gallery) + 1) / (size + 1)
    gallery_ids = rng.integers(0, draw(st.integers(1, 12)), num_gallery)
    return values, rng.choice(gallery_ids, num_queries), gallery_ids


@settings(max_examples=250)
@given(without_ties())
def test_average_precision_of_scikit_learn(case: Case) -> None:
    similarity, query_ids, gallery_ids = case
    relevant = gallery_ids == query_ids[:, None]
    expected = [average_precision_score(relevant[q], similarity[q]) for q in range(len(query_ids))]
    np.testing.assert_allclose(retrieval_scores(similarity, query_ids, gallery_ids).ap, expected, atol=1e-9)


@settings(max_examples=300)
@given(without_ties(), st.integers(1, 10))
def test_ndcg_of_scikit_learn(case: Case, k: int) -> None:
    similarity, query_ids, gallery_ids = case
    expected = ndcg_score(gallery_ids == query_ids[:, None], similarity, k=k)
    scores = retrieval_scores(similarity, query_ids, gallery_ids, max_rank=10)
    assert scores.ndcg[k - 1] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=200)
@given(without_ties(), st.integers(1, 10))
def test_map_and_recall_of_torchmetrics(case: Case, k: int) -> None:
    similarity, query_ids, gallery_ids = case
    flat = torch.from_numpy(similarity.ravel())
    relevant = torch.from_numpy(gallery_ids == query_ids[:, None]).ravel()
    groups = torch.arange(len(query_ids)).repeat_interleave(len(gallery_ids))
    scores = retrieval_scores(torch.from_numpy(similarity), query_ids, gallery_ids, max_rank=10)
    assert scores.map == pytest.approx(RetrievalMAP()(flat, relevant, indexes=groups).item(), abs=1e-6)
    recall = RetrievalRecall(top_k=min(k, len(gallery_ids)))(flat, relevant, indexes=groups).item()
    assert scores.recall[k - 1] == pytest.approx(recall, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_calculator_of_pytorch_metric_learning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((40, 6))), dim=1)
    gallery = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((90, 6))), dim=1)
    query_ids, gallery_ids = torch.from_numpy(np.arange(40) % 13), torch.from_numpy(rng.permutation(90) % 13)
    neighbours = CustomKNN(CosineSimilarity())
    calculator = AccuracyCalculator(include=("mean_average_precision", "precision_at_1"), k=90, knn_func=neighbours)
    expected = calculator.get_accuracy(query, query_ids, gallery, gallery_ids)
    scores = embedding_scores(query, gallery, query_ids, gallery_ids)
    assert scores.map == pytest.approx(expected["mean_average_precision"], abs=1e-6)
    assert scores.cmc[0] == pytest.approx(expected["precision_at_1"], abs=1e-6)


@settings(max_examples=250)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([2, 5, 1000]))
def test_one_relevant_item_ties_both_definitions_and_rank_one_together(seed: int, size: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, levels, (7, size))
    scores = retrieval_scores(similarity, rng.integers(0, size, 7), np.arange(size))
    assert scores.map == pytest.approx(2 * scores.map_trapezoid - scores.cmc[0], abs=1e-12)
    np.testing.assert_allclose(scores.ap, 1 / scores.first_rank)
    assert scores.minp == pytest.approx(scores.map, abs=1e-12)
