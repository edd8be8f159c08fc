"""The temperature of a model that trains both towers: given, learned, or held."""

import pytest
import torch
from torch.nn import functional as F

from handclip_core.engine.loop import Budget, train
from handclip_core.engine.optim import choose
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of
from tests.conftest import TINY_DATA

every_task = pytest.mark.parametrize("task", ["captions", "classes"])


def assembled(backbone: BackboneSettings, task: str, **losses: object) -> Assembled:
    strategy = {"name": "two_tower", "optim": {"batch_size": 16, "lr": 0.1}, "rates": "published", "losses": losses}
    strategy |= {"class_loss": "cross_entropy", "templates": "name"}
    values = {"strategy": strategy, "task": {"name": task}, "data": TINY_DATA, "backbone": backbone}
    experiment = Experiment.model_validate(values)
    return assemble(experiment, context_of(experiment, torch.device("cpu")))


def scale_of(ready: Assembled) -> float:
    """What cosines are multiplied by, as the loss sees it."""
    output = ready.model.train()(ready.loader(0).batch(0))
    if output.matching is not None:
        return float(output.matching.scale.item())
    texts = ready.model.read_texts(ready.context.training_data().class_names)
    assert texts is not None
    cosines = F.normalize(output.embedding, dim=1) @ F.normalize(texts, dim=1).T
    return float((output.logits / cosines).median().item())


def trained(ready: Assembled) -> Assembled:
    for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(1, 128), seed=0):
        pass
    return ready


@every_task
def test_a_temperature_that_is_held_stays_as_given(tiny_backbones: dict[str, BackboneSettings], task: str) -> None:
    ready = assembled(tiny_backbones["vit"], task, temperature=0.05, learn_temperature=False)
    assert "backbone.logit_scale" not in {item.name for item in choose(ready.model, ready.phases[0].train)}
    assert scale_of(ready) == pytest.approx(20)
    assert scale_of(trained(ready)) == pytest.approx(20)


@every_task
def test_a_temperature_that_is_learned_moves_and_falls_no_lower_than_allowed(
    tiny_backbones: dict[str, BackboneSettings], task: str
) -> None:
    free = assembled(tiny_backbones["vit"], task, temperature=0.05, lowest_temperature=0.001)
    assert scale_of(trained(free)) != pytest.approx(20, rel=1e-3)
    low = assembled(tiny_backbones["vit"], task, temperature=0.05, lowest_temperature=0.1)
    assert scale_of(low) == pytest.approx(10)
