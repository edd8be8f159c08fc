"""Mixtures of low-rank updates, held against weights that were merged by hand in float64."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import score
from handclip_core.runs.run_folder import FINAL, load_tensors
from handclip_core.runs.soups import ALPHAS, Ingredient, SoupBuilder, mixture, wise_ft_scores
from handclip_core.strategies import Lora
from tests.lora_runs import (
    CPU,
    OTHERS,
    SAME,
    embedded,
    lora_run,
    mean_by_hand,
    merged_by_hand,
    plain_model,
    untrained,
)

ROUNDING = 1e-3
"""Of validation mAP: weights rounded otherwise let near-equal images change places."""
Backbones = dict[str, BackboneSettings]
both_towers = pytest.mark.parametrize("tower", ["vit", "resnet"])
of_all_kinds = pytest.mark.parametrize("strategies", [SAME, OTHERS], ids=["same", "others"])


def baked(strategies: Sequence[Lora], backbone: BackboneSettings, folder: Path) -> list[Ingredient]:
    return [
        Ingredient(str(seed), lora_run(strategy, backbone, folder / str(seed), seed=seed), folder / str(seed) / FINAL)
        for seed, strategy in enumerate(strategies)
    ]


def by_hand(run: Ingredient) -> dict[str, Tensor]:
    assert isinstance(run.experiment.strategy, Lora)
    return merged_by_hand(load_tensors(run.weights), run.experiment.strategy)


def start_by_hand(run: Ingredient) -> dict[str, Tensor]:
    assert isinstance(run.experiment.strategy, Lora)
    return merged_by_hand(untrained(run.experiment).state_dict(), run.experiment.strategy)


def scored(run: Ingredient, model: HandModel) -> Evaluation:
    context = open_context(run.experiment.data, run.experiment.backbone, CPU)
    return score(context, model, context.pixel_inputs, "val")


def same_embeddings(found: HandModel, expected: HandModel) -> None:
    torch.testing.assert_close(embedded(found), embedded(expected), rtol=0, atol=1e-6)


@both_towers
@of_all_kinds
def test_a_soup_embeds_like_the_mean_of_the_merged_weights(
    tiny_backbones: Backbones, tmp_path: Path, tower: str, strategies: Sequence[Lora]
) -> None:
    runs = baked(strategies, tiny_backbones[tower], tmp_path)
    shares = [1 / len(runs)] * len(runs)
    expected = plain_model(runs[0].experiment, mean_by_hand([by_hand(run) for run in runs], shares))
    same_embeddings(mixture(runs, device=CPU), expected)
    builder = SoupBuilder([[run] for run in runs], CPU)
    assert [sorted(group) for group in builder.groups()] == [[*range(len(runs))]]
    (uniform,) = (soup for soup in builder.soups() if soup.kind == "uniform soup")
    map_by_hand = scored(runs[0], expected.float()).mean("map")
    assert uniform.scores[0].mean("map") == pytest.approx(map_by_hand, abs=ROUNDING)


@both_towers
def test_the_mean_of_the_factors_is_another_model(tiny_backbones: Backbones, tmp_path: Path, tower: str) -> None:
    """So the test above can fail."""
    runs = baked(SAME, tiny_backbones[tower], tmp_path)
    factors = mean_by_hand([load_tensors(run.weights) for run in runs], [0.5, 0.5])
    wrong = untrained(runs[0].experiment)
    wrong.load_state_dict(factors)
    assert (embedded(wrong) - embedded(mixture(runs, device=CPU))).abs().max() > 0.01


@both_towers
def test_one_run_alone_embeds_like_its_merged_weights(tiny_backbones: Backbones, tmp_path: Path, tower: str) -> None:
    (run,) = baked(OTHERS[1:2], tiny_backbones[tower], tmp_path)
    same_embeddings(mixture([run], device=CPU), plain_model(run.experiment, by_hand(run)))


@both_towers
def test_wise_ft_is_between_the_merged_weights(tiny_backbones: Backbones, tmp_path: Path, tower: str) -> None:
    (run,) = baked(OTHERS[:1], tiny_backbones[tower], tmp_path)
    found = wise_ft_scores(run, device=CPU)
    assert tuple(found) == ALPHAS
    for alpha in (0.3, 0.9):
        between = mean_by_hand([start_by_hand(run), by_hand(run)], [1 - alpha, alpha])
        expected = plain_model(run.experiment, between)
        same_embeddings(mixture([run], alpha=alpha, device=CPU), expected)
        map_by_hand = scored(run, expected.float()).mean("map")
        assert found[alpha].mean("map") == pytest.approx(map_by_hand, abs=ROUNDING)


@both_towers
def test_a_share_of_0_is_the_untrained_model_and_of_1_the_trained_one(
    tiny_backbones: Backbones, tmp_path: Path, tower: str
) -> None:
    (run,) = baked(OTHERS[1:2], tiny_backbones[tower], tmp_path)
    none, all_of_it = (mixture([run], alpha=alpha, device=CPU).state_dict() for alpha in (0.0, 1.0))
    start, trained = start_by_hand(run), mixture([run], device=CPU).state_dict()
    for name, value in all_of_it.items():
        if value.is_floating_point():
            assert torch.equal(value, trained[name])
            assert torch.equal(none[name], start[name].float())


def test_a_share_of_several_runs_is_one_of_their_mean(tiny_backbones: Backbones, tmp_path: Path) -> None:
    runs = baked(OTHERS, tiny_backbones["vit"], tmp_path)
    states = [start_by_hand(runs[0]), *(by_hand(run) for run in runs)]
    expected = plain_model(runs[0].experiment, mean_by_hand(states, [0.4, 0.2, 0.2, 0.2]))
    same_embeddings(mixture(runs, alpha=0.6, device=CPU), expected)
