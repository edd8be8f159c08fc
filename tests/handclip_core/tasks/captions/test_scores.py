"""Figures of both directions against slow loops, scikit-learn and torchmetrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP, RetrievalNormalizedDCG

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import compare_paired, estimate, resampled
from handclip_core.evaluation.generic import GENERIC
from handclip_core.tasks.captions import scores as module
from handclip_core.tasks.captions.scores import (
    DIRECTIONS,
    METRICS,
    CaptionScores,
    Pairing,
    load_caption_scores,
    save_caption_scores,
    score_captions,
)

RNG = np.random.default_rng


def pairing(seed: int = 0, *, images: int = 30, texts: int = 50, noise: float = 1.0) -> Pairing:
    """Texts of one image each, or of two: the first five are shared; image vectors are near those of their texts."""
    rng = RNG(seed)
    image = np.concatenate([np.arange(images), rng.integers(0, images, texts - images), np.arange(5) + 7])
    text = np.concatenate([np.arange(texts), np.arange(5)])
    owned = rng.standard_normal((images, 12)).astype(np.float32)
    read = owned[image[:texts]] + noise * rng.standard_normal((texts, 12)).astype(np.float32)
    return Pairing(unit(owned), unit(read), image, text, np.arange(images) // 2)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def scored(found: Pairing) -> CaptionScores:
    return score_captions(found, np.arange(len(found.images)))


def sides(found: Pairing) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Similarities [Q, G] and right answers [Q, G] of each direction."""
    right = np.zeros((len(found.texts), len(found.images)), bool)
    right[found.text, found.image] = True
    similarity = found.texts @ found.images.T
    return {"text_to_image": (similarity, right), "image_to_text": (similarity.T, right.T)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block", [1 << 24, 64])
def test_figures_are_those_of_slow_loops_and_of_scikit_learn(
    seed: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    found = pairing(seed)
    figures = scored(found).metrics
    for direction, (similarity, right) in sides(found).items():
        ranks = []
        for row, known in zip(similarity, right, strict=True):
            order = np.argsort(-row, kind="stable")
            ranks.append(1 + next(place for place, entry in enumerate(order) if known[entry]))
        for k in (1, 5, 10):
            assert figures[f"{direction}_recall{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
        assert figures[f"{direction}_median_rank"] == np.median(ranks)
        precision = [sk.average_precision_score(known, row) for known, row in zip(right, similarity, strict=True)]
        assert figures[f"{direction}_map"] == pytest.approx(np.mean(precision))
        assert figures[f"{direction}_ndcg"] == pytest.approx(sk.ndcg_score(right, similarity, k=10))
    assert figures["recall1"] == pytest.approx(
        (figures["text_to_image_recall1"] + figures["image_to_text_recall1"]) / 2
    )
    # What is kept of other knowledge is the evaluator's to add, which has the model.
    assert {metric.name for metric in METRICS} - set(figures) == {GENERIC.name}


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_torchmetrics(seed: int) -> None:
    found = pairing(seed)
    figures = scored(found).metrics
    for direction, (similarity, right) in sides(found).items():
        above_0 = torch.from_numpy(similarity.ravel() + 2)  # torchmetrics drops right answers of other scores
        queries = torch.arange(len(right)).repeat_interleave(right.shape[1])
        given = (above_0, torch.from_numpy(right.ravel()), queries)
        for k in (1, 5, 10):
            assert figures[f"{direction}_recall{k}"] == pytest.approx(float(RetrievalHitRate(top_k=k)(*given)))
        assert figures[f"{direction}_map"] == pytest.approx(float(RetrievalMAP()(*given)), abs=1e-6)
        assert figures[f"{direction}_ndcg"] == pytest.approx(float(RetrievalNormalizedDCG(top_k=10)(*given)), abs=1e-6)


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    found = pairing()
    flat = Pairing(np.ones_like(found.images), np.ones_like(found.texts), found.image, found.text, found.cluster)
    figures = scored(flat).metrics
    assert figures["recall10"] == 0
    assert figures["text_to_image_median_rank"] == 30


def test_folds_are_the_mean_over_thousands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD", 6)
    found = pairing()
    whole = scored(found)
    similarity, right = sides(found)["text_to_image"]
    hits = []
    for start in range(0, 30, 6):
        part = slice(start, start + 6)
        described = right[:, part].any(axis=1)
        best = similarity[described, part].argmax(axis=1)
        hits.append(right[described, part][np.arange(len(best)), best].mean())
    assert whole.folds["text_to_image_recall1"] == pytest.approx(np.mean(hits))
    assert whole.folds["text_to_image_recall1"] > whole.metrics["text_to_image_recall1"]
    assert "mean of 5 x 6 images" in whole.text
    monkeypatch.setattr(module, "FOLD", 7)
    assert scored(found).folds == {}


@pytest.mark.parametrize("metric", ["recall1", "map", "image_to_text_recall5", "text_to_image_ndcg"])
def test_the_resampled_figure_is_the_figure_and_images_are_drawn_with_their_captions(metric: str) -> None:
    found = scored(pairing())
    whole = resampled(found, metric, seed=4)
    assert whole.value == pytest.approx(found.metrics[metric])
    assert whole.num_identities == 15
    units = found.units(metric)
    drawn = RNG(4).integers(0, 15, size=(len(whole.samples), 15))
    for sample, groups in list(zip(whole.samples, drawn, strict=True))[:20]:
        rows = np.concatenate([np.flatnonzero(units.cluster == group) for group in groups])
        cells = [units.values[rows][units.cell[rows] == cell].mean() for cell in np.unique(units.cell)]
        assert sample == pytest.approx(np.mean(cells))


def test_a_better_model_beats_a_worse_one_and_a_direction_can_be_looked_at() -> None:
    good, bad = scored(pairing(noise=0.3)), scored(pairing(noise=2.0))
    gap = compare_paired(good, bad, "recall1")
    assert gap.low > 0
    assert gap.probability > 0.99
    for direction in DIRECTIONS:
        value = bad.metrics[f"{direction}_recall1"]
        assert estimate(bad, "recall1", part=direction).value == pytest.approx(value)
        assert bad.objective_of(direction) == pytest.approx(value)
    with pytest.raises(InputError, match="direction 'sideways' was not scored"):
        estimate(bad, "recall1", part="sideways")
    with pytest.raises(InputError, match="different images or captions"):
        compare_paired(bad, scored(pairing(texts=60)), "recall1")


def test_scores_come_back_from_a_file(tmp_path: Path) -> None:
    found = scored(pairing())
    save_caption_scores(tmp_path / "a" / "scores.npz", found)
    again = load_caption_scores(tmp_path / "a" / "scores.npz")
    assert again.metrics == found.metrics
    assert compare_paired(found, again, "map").difference == 0
    with pytest.raises(InputError, match="no such file"):
        load_caption_scores(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no scores")
    with pytest.raises(InputError, match="not a file of scores"):
        load_caption_scores(tmp_path / "text.npz")


@pytest.mark.parametrize("block", [1 << 24, 64])
def test_the_most_similar_entries_are_kept_best_first_and_of_equals_the_first(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    found = pairing()
    twice = Pairing(found.images[np.arange(30) // 2 * 2], found.texts, found.image, found.text, found.cluster)
    kept = scored(twice).directions
    for direction, (similarity, _) in sides(twice).items():
        order = np.argsort(-similarity, axis=1, kind="stable")[:, : module.TOP]
        assert kept[direction].top.tolist() == order.tolist()
        wanted = np.take_along_axis(similarity, order, axis=1)
        np.testing.assert_allclose(kept[direction].similarity, wanted, atol=1e-6)
