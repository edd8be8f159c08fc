"""Rates of the image tower by its size."""

import pytest
import torch
from open_clip.transformer import VisionTransformer

from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, assemble
from handclip_core.strategies import ClipReid, Full, LinearProbe, Lora, Strategy
from handclip_core.strategies.rates import REFERENCE_WEIGHTS, Rates, rate_for
from tests.conftest import TINY_DATA


def test_the_reference_is_the_tower_of_vit_b_16() -> None:
    with torch.device("meta"):
        tower = VisionTransformer(
            image_size=224, patch_size=16, width=768, layers=12, heads=12, mlp_ratio=4, output_dim=512
        )
    assert sum(parameter.numel() for parameter in tower.parameters()) == REFERENCE_WEIGHTS


def test_a_tower_of_a_twentieth_of_the_weights_gets_twenty_times_the_rate() -> None:
    nano = load_backbone(BackboneSettings())
    expected = 1e-5 * 86_192_640 / 3_210_164
    assert rate_for(nano, 1e-5, Rates.BY_SIZE) == pytest.approx(expected)
    assert rate_for(nano, 1e-5, Rates.PUBLISHED) == 1e-5
    assert rate_for(nano, 0.5, Rates.BY_SIZE) == 1.0


@pytest.mark.parametrize(
    ("strategy", "phase", "times"),
    [
        (Full(), 0, 100),
        (LinearProbe(finetune_share=0.5), 1, 100),
        (LinearProbe(finetune_share=0.5), 0, 1),
        (Lora(), 0, 1),
        (Full(rates=Rates.PUBLISHED), 0, 1),
    ],
)
def test_the_rates_of_what_is_new_do_not_depend_on_the_tower(
    tiny_context: ExperimentContext, strategy: Strategy, phase: int, times: float
) -> None:
    ready = assemble(Experiment(strategy=strategy, data=TINY_DATA, backbone=tiny_context.settings), tiny_context)
    published = {"full": 1e-5, "lora": 1e-3, "linear_probe": 1e-5 if phase else 1e-3}
    assert ready.phases[phase].optim.lr == pytest.approx(times * published[strategy.name])


def test_of_two_stages_the_prompts_keep_their_rate(tiny_context: ExperimentContext) -> None:
    ready = assemble(Experiment(strategy=ClipReid(), data=TINY_DATA, backbone=tiny_context.settings), tiny_context)
    assert [phase.optim.lr for phase in ready.phases] == pytest.approx([3.5e-4, 5e-4])
