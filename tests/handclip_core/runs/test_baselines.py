from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from handclip_core.data.training import LabelBy
from handclip_core.evaluation.baselines import BASELINES, Baseline, Descriptors, pixel_descriptors
from handclip_core.evaluation.bootstrap import compare_paired
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.pretraining.pairs import ASPECT_NAMES
from handclip_core.runs import baselines
from handclip_core.runs.baselines import (
    baseline_descriptors,
    baseline_scores,
    read_gaps,
    score_baselines,
    write_gaps,
)
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Experiment, assemble, context_of, score
from handclip_core.strategies import ZeroShot
from handclip_core.tasks.identities.evaluator import IdentityEvaluator
from tests.conftest import TINY_DATA


@pytest.fixture
def context(tiny_backbones: dict[str, BackboneSettings]) -> ExperimentContext:
    return open_context(TINY_DATA, tiny_backbones["vit"], torch.device("cpu"))


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_scores_the_queries_of_the_split(name: str, context: ExperimentContext) -> None:
    scores = baseline_scores(name, context, "val")
    assert isinstance(scores, ProtocolScores)
    evaluator = context.evaluator("val")
    assert isinstance(evaluator, IdentityEvaluator)
    assert np.array_equal(scores.queries.row, evaluator.zero_shot_queries.row)
    assert 0 < scores.mean("map") <= 1


def test_descriptors_come_in_the_order_of_the_rows_however_many_at_a_time(
    context: ExperimentContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = context.rows("val")[::-1]
    monkeypatch.setattr(baselines, "CHUNK", 3)
    found = baseline_descriptors("pixels", context, rows)
    assert np.array_equal(found, pixel_descriptors(context.pixels.batch(rows)))


def test_trained_baselines_are_fitted_to_training_images_alone(context: ExperimentContext) -> None:
    rows = context.rows("val")
    some, all_rows = (baseline_descriptors("wccn_hog", context, each) for each in (rows[:4], rows))
    assert some == pytest.approx(all_rows[:4], abs=1e-6)
    other = baseline_descriptors("wccn_hog", context, rows[:4], part="train_all")
    assert not np.allclose(some @ some.T, other @ other.T, atol=1e-3), "cosines, whatever the axes"


def test_handclip_nano_beats_the_plain_baselines_on_people_it_has_not_seen_and_tells_aspects() -> None:
    context = open_context(TINY_DATA, BackboneSettings(), torch.device("cpu"))
    experiment = Experiment(data=TINY_DATA, backbone=BackboneSettings(), strategy=ZeroShot(), budget=1)
    zero_shot = score(context, assemble(experiment, context).model, context.pixel_inputs, "test").mean("map")
    assert zero_shot > max(baseline_scores(name, context, "test").mean("map") for name in ("pixels", "hog")) + 0.1
    backbone = load_backbone(BackboneSettings(), text=True).eval()
    rows = context.rows("test")
    pixels = torch.from_numpy(context.pixels.batch(rows)).permute(0, 3, 1, 2).float() / 255
    side = [backbone.image_px, backbone.image_px]
    images = functional.interpolate(pixels, side, mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        prompts = backbone.encode_text(backbone.tokenize([f"a photo of a {name}" for name in ASPECT_NAMES]))
        told = backbone(images).projected @ functional.normalize(prompts, dim=1).T
    assert (told.argmax(dim=1).numpy() == context.aspect_indices[rows]).mean() > 0.9


def test_scores_are_kept_a_data_set_and_made_anew_if_the_file_is_damaged(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path))
    open_context.cache_clear()
    experiment = Experiment(strategy=ZeroShot(), data=TINY_DATA, backbone=tiny_backbones["vit"])
    first = score_baselines(experiment, "cpu")
    assert {*first.scores} == {*BASELINES}

    with monkeypatch.context() as patched:
        patched.setattr(baselines, "baseline_scores", None)  # nothing may be scored again
        again = score_baselines(experiment, "cpu")
    for name, scores in first.scores.items():
        assert again.scores[name].mean("map") == scores.mean("map")

    (folder,) = (path for path in tmp_path.glob("baselines-*") if path.is_dir())
    (folder / "hog.npz").write_bytes(b"damaged")
    assert score_baselines(experiment, "cpu").scores["hog"].mean("map") == first.scores["hog"].mean("map")

    other = experiment.model_copy(update={"data": type(TINY_DATA)(**{**TINY_DATA.model_dump(), "gallery": "own"})})
    assert score_baselines(other, "cpu").scores["pixels"].mean("map") != first.scores["pixels"].mean("map")
    open_context.cache_clear()


def test_a_model_is_held_against_every_baseline_on_the_same_queries(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    experiment = Experiment(strategy=ZeroShot(), data=TINY_DATA, backbone=tiny_backbones["vit"])
    context = context_of(experiment, torch.device("cpu"))
    results = baseline_scores("hog", context, "val")
    write_gaps(tmp_path, experiment, results, "cpu")
    gaps = {gap.name: gap for gap in read_gaps(tmp_path)}
    assert list(gaps) == sorted(gaps, key=lambda name: -gaps[name].value)
    assert gaps["hog"].difference == gaps["hog"].low == gaps["hog"].high == 0
    assert not gaps["hog"].beaten
    for name, gap in gaps.items():
        found = compare_paired(results, baseline_scores(name, context, "val"))
        assert (gap.difference, gap.low, gap.high) == (found.difference, found.low, found.high)
    assert read_gaps(tmp_path / "nothing") == []


def test_of_many_training_images_whole_identities_are_fitted_to(
    context: ExperimentContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[int] = []
    known = baselines._described

    def counted(baseline: Baseline, opened: ExperimentContext, rows: NDArray[np.int64], what: str) -> Descriptors:
        if "training" in what:
            people, counts = np.unique(context.identities[rows], return_counts=True)
            assert counts.tolist() == [int((context.identities[all_rows] == one).sum()) for one in people]
            described.append(len(rows))
        return known(baseline, opened, rows, what)

    all_rows = context.training_data().labelled(LabelBy.PERSON_ASPECT).rows
    monkeypatch.setattr(baselines, "_described", counted)
    for most in (10_000, len(all_rows) - 1, 1):
        monkeypatch.setattr(baselines, "MOST_FITTED", most)
        assert np.isfinite(baseline_descriptors("whitened_pixels", context, context.rows("val"))).all()
    assert described[0] == len(all_rows) > described[1] > described[2] > 0
