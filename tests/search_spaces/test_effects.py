"""Every hyperparameter that is drawn changes what comes out."""

from collections.abc import Iterator

import pytest
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor

from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Experiment, run
from search_spaces.joint import JointSpace
from search_spaces.suggest import Primitive
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
SHARED = ("optim/", "neck/", "augment/", "losses/identity/", "head_lr_scale", "layer_decay", "frozen_blocks")
"""What every strategy that trains the tower draws; looked at in ``full`` alone."""
FIRST = {
    "optim/ema": 0.9,
    "optim/batch_size": 16,
    "losses/identity/kind": "arcface",
    "neck/kind": "bn",
    "finetune_share": 0.5,
    "losses/triplet/weight": 1.0,
    "losses/triplet/mining": "semihard",
    "targets": "both",
}
"""Values of the base that open branches, where a space has them."""
OWN = (
    "linear_probe", "sequential", "sequential_ewc", "cross_view", "curriculum", "aspect_specific", "adapters", "lora",
    "clip_reid",
)  # fmt: skip
BUDGETS = {"sequential_ewc": 8}
"""A penalty acts from the second step of a phase on."""
SPACE = JointSpace(("full", *OWN))


def middle(distribution: BaseDistribution) -> Primitive:
    if isinstance(distribution, CategoricalDistribution):
        chosen: Primitive = distribution.choices[0]
        return chosen
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    value = (low * high) ** 0.5 if distribution.log else (low + high) / 2
    return int(value) if isinstance(distribution, IntDistribution) else value


def others(distribution: BaseDistribution, value: Primitive) -> Iterator[Primitive]:
    """Values beside ``value``: every other choice, or both ends."""
    if isinstance(distribution, CategoricalDistribution):
        yield from (choice for choice in distribution.choices if choice != value)
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        yield from (end for end in (distribution.low, distribution.high) if end != value)


def base(name: str, distribution: BaseDistribution) -> Primitive:
    path = name.partition("/")[2]
    wanted = FIRST.get(path)
    if isinstance(distribution, CategoricalDistribution) and wanted in distribution.choices:
        return wanted
    return middle(distribution)


def outcome(
    strategy: str, context: ExperimentContext, changed: dict[str, Primitive]
) -> tuple[dict[str, Tensor], Tensor]:
    """Weights after two units, and embeddings of validation images."""
    draft = SPACE.draw(strategy, lambda name, part: changed.get(name, base(name, part)))
    experiment = Experiment(
        strategy=draft.strategy, data=TINY_DATA, backbone=context.settings, budget=BUDGETS.get(strategy, 2)
    )
    *_, last = run(experiment, device=CPU)
    model = last.state.model.eval()
    assert isinstance(model, HandModel)
    rows = context.rows("val")[:6]
    with torch.no_grad():
        shown = model.embed(context.pixel_inputs.of(rows, device=CPU), torch.from_numpy(context.aspect_indices[rows]))
    return {name: value.clone() for name, value in model.state_dict().items()}, shown


def same(one: tuple[dict[str, Tensor], Tensor], other: tuple[dict[str, Tensor], Tensor]) -> bool:
    weights = (one[0].keys() == other[0].keys()) and all(torch.equal(v, other[0][k]) for k, v in one[0].items())
    return weights and torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    "strategy",
    # Two thirds of the time are those of the one with the most units.
    [pytest.param(name, marks=[pytest.mark.faults] if name in BUDGETS else []) for name in SPACE.strategies],
)
def test_every_hyperparameter_that_is_drawn_has_an_effect(
    strategy: str, tiny_backbones: dict[str, BackboneSettings]
) -> None:
    # Only the ResNets have more blocks to adapt than ``last_blocks`` may ask for, and only pretrained ones put images
    # far enough apart for a margin to matter.
    backbones = {"lora": tiny_backbones["resnet"], "clip_reid": BackboneSettings()}
    context = open_context(TINY_DATA, backbones.get(strategy, tiny_backbones["vit"]), CPU)
    drawn = SPACE.draw(strategy, base).distributions
    first = outcome(strategy, context, {})
    own = [name for name in drawn if strategy == "full" or not name.partition("/")[2].startswith(SHARED)]
    idle = []
    for name in own:
        values = others(drawn[name], base(name, drawn[name]))
        if all(same(first, outcome(strategy, context, {name: value})) for value in values):
            idle.append(name)
    assert own
    assert idle == []
