"""The temperature of a model that trains both towers: given, learned, or held."""

import pytest
import torch

from handclip_core.engine.loop import Budget, train
from handclip_core.engine.optim import choose
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of
from tests.conftest import TINY_DATA


def assembled(backbone: BackboneSettings, **losses: object) -> Assembled:
    strategy = {"name": "two_tower", "optim": {"batch_size": 16, "lr": 0.1}, "rates": "published", "losses": losses}
    values = {"strategy": strategy, "task": {"name": "captions"}, "data": TINY_DATA, "backbone": backbone}
    experiment = Experiment.model_validate(values)
    return assemble(experiment, context_of(experiment, torch.device("cpu")))


def scale_of(ready: Assembled) -> float:
    """What cosines are multiplied by, as the loss sees it."""
    matching = ready.model.train()(ready.loader(0).batch(0)).matching
    assert matching is not None
    return float(matching.scale.item())


def trained(ready: Assembled) -> Assembled:
    for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(1, 128), seed=0):
        pass
    return ready


def test_a_temperature_that_is_held_stays_as_given(tiny_backbones: dict[str, BackboneSettings]) -> None:
    ready = assembled(tiny_backbones["vit"], temperature=0.05, learn_temperature=False)
    assert "backbone.logit_scale" not in {item.name for item in choose(ready.model, ready.phases[0].train)}
    assert scale_of(ready) == pytest.approx(20)
    assert scale_of(trained(ready)) == pytest.approx(20)


def test_a_temperature_that_is_learned_moves_and_falls_no_lower_than_allowed(
    tiny_backbones: dict[str, BackboneSettings],
) -> None:
    free = assembled(tiny_backbones["vit"], temperature=0.05, lowest_temperature=0.001)
    assert scale_of(trained(free)) != pytest.approx(20, rel=1e-3)
    low = assembled(tiny_backbones["vit"], temperature=0.05, lowest_temperature=0.1)
    assert scale_of(low) == pytest.approx(10)
