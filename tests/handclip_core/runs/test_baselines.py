import numpy as np
import pytest
import torch
from torch.nn import functional

from handclip_core.evaluation.baselines import BASELINES, pixel_descriptors
from handclip_core.evaluation.protocol import ProtocolScores
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.pretraining.pairs import ASPECT_NAMES
from handclip_core.runs import baselines
from handclip_core.runs.baselines import baseline_descriptors, baseline_scores
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Experiment, assemble, score
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
