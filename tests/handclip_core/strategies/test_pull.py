"""The pull to the pretrained weights, of people and of classes."""

import pytest
import torch

from handclip_core.engine.loop import Budget, train
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of
from tests.conftest import TINY_DATA

TASKS = pytest.mark.parametrize("task", ["identities", "classes"])


def assembled(backbone: BackboneSettings, task: str, **settings: object) -> Assembled:
    """``full`` on images that are changed a little, so that nothing is read from a cache of another precision."""
    changed = {"optim": {"batch_size": 8, "lr": 1e-2}, "rates": "published", "augment": {"shift": 0.01}}
    strategy = {"name": "full", **changed, **settings}
    values = {"strategy": strategy, "task": {"name": task}, "data": TINY_DATA, "backbone": backbone}
    experiment = Experiment.model_validate(values)
    return assemble(experiment, context_of(experiment, torch.device("cpu")))


@TASKS
def test_the_penalty_is_that_of_a_slow_loop_over_what_is_trained_of_the_tower(
    tiny_backbones: dict[str, BackboneSettings], task: str
) -> None:
    backbone = tiny_backbones["vit"]
    blocks = len(assembled(backbone, task).model.backbone.blocks())
    ready = assembled(backbone, task, pull=0.3, frozen_blocks=blocks - 1)
    (penalty,) = ready.phases[0].penalties
    assert penalty(ready.model).item() == 0
    before = {name: one.detach().clone() for name, one in ready.model.named_parameters()}
    with torch.no_grad():
        for one in ready.model.parameters():
            one.add_(0.01 * torch.randn_like(one))
    moved = dict(ready.model.named_parameters())["backbone.visual.proj"] - before["backbone.visual.proj"]
    expected = sum(0.3 * value**2 for value in moved.flatten().tolist())
    assert penalty(ready.model).item() == pytest.approx(expected, rel=1e-4)


@TASKS
def test_the_pull_holds_the_tower(tiny_backbones: dict[str, BackboneSettings], task: str) -> None:
    def moved(pull: float) -> float:
        ready = assembled(tiny_backbones["vit"], task, pull=pull)
        start = [one.detach().clone() for one in ready.model.backbone.parameters()]
        for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(2, 60), seed=3):
            pass
        ends = zip(ready.model.backbone.parameters(), start, strict=True)
        return sum(float((end.detach() - one).square().sum()) for end, one in ends)

    assert moved(100.0) < moved(0.0) / 3


def test_nothing_is_pulled_unless_asked_for(tiny_backbones: dict[str, BackboneSettings]) -> None:
    assert assembled(tiny_backbones["vit"], "identities").phases[0].penalties == ()
