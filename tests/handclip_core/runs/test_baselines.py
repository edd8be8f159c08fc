import numpy as np
import pytest
import torch

from handclip_core.evaluation.baselines import BASELINES, pixel_descriptors
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs import baselines
from handclip_core.runs.baselines import baseline_descriptors, baseline_scores
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.tasks.identities.evaluator import IdentityEvaluator
from tests.conftest import TINY_DATA


@pytest.fixture
def context(tiny_backbones: dict[str, BackboneSettings]) -> ExperimentContext:
    return open_context(TINY_DATA, tiny_backbones["vit"], torch.device("cpu"))


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_scores_the_queries_of_the_split(name: str, context: ExperimentContext) -> None:
    scores = baseline_scores(name, context, "val")
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
