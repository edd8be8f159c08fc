"""A step in parts, or shared among processes, has the gradients of the undivided batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from handclip_core.engine.gradients import backward
from handclip_core.engine.loop import train
from handclip_core.models.backbone import BackboneSettings
from handclip_core.process_group import process_group
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.experiment import Assembled, Experiment, assemble, score
from tests.conftest import TINY_DATA
from tests.process_pair import process_pair

STRATEGY: dict[str, Any] = {
    "optim": {"batch_size": 12, "lr": 1e-3, "clip_norm": 1.0},
    "neck": {"kind": "bn"},
    "sampler": {"kind": "pk", "images_each": 3},
    "losses": {"triplet": {"weight": 1.0}, "identity": {"smoothing": 0.1}},
    "augment": {"brightness": 0.2, "erase": 0.5},
}


def ready_to_train(context: ExperimentContext, strategy: dict[str, object]) -> Assembled:
    values = {"strategy": {"name": "full", **strategy}, "data": {"source": "drawn"}, "budget": 1, "seed": 3}
    return assemble(Experiment.model_validate(values), context)


def trained(ready: Assembled) -> dict[str, Tensor]:
    ready.model.double()
    for _ in train(ready.model, ready.phases, loader=ready.loader, budget=ready.budget, seed=ready.experiment.seed):
        pass
    return ready.model.state_dict()


def gradients(ready: Assembled, *, micro_batch: int | None) -> dict[str, Tensor]:
    """Of the first step, in double precision."""
    ready.model.double()
    torch.manual_seed(0)
    ready.model.train()
    batch = ready.loader(0).batch(0)
    backward(ready.model, batch, ready.phases[0], micro_batch=micro_batch, group=process_group(), seed=5)
    return {name: p.grad.clone() for name, p in ready.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 5, 12])
@pytest.mark.parametrize("ewc", [False, True], ids=["plain", "penalty"])
def test_a_batch_in_parts_has_the_same_gradients(tiny_context: ExperimentContext, micro_batch: int, ewc: bool) -> None:
    whole, parts = (ready_to_train(tiny_context, STRATEGY) for _ in range(2))
    if ewc:
        whole, parts = (with_a_penalty(ready) for ready in (whole, parts))
    expected, found = gradients(whole, micro_batch=None), gradients(parts, micro_batch=micro_batch)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-9)


def with_a_penalty(ready: Assembled) -> Assembled:
    """L2 towards zero on the image tower."""

    class Shrink:
        def __call__(self, model: torch.nn.Module) -> Tensor:
            return sum(
                (p.square().sum() for n, p in model.named_parameters() if "visual" in n),
                torch.zeros((), dtype=torch.float64),
            )

        def consolidate(self, model: torch.nn.Module, batches: object) -> None: ...

        def state_dict(self) -> dict[str, Tensor]:
            return {}

        def load_state_dict(self, state: dict[str, Tensor]) -> None: ...

    return replace(ready, phases=(replace(ready.phases[0], penalties=(Shrink(),)),))


def test_dropped_activations_are_the_same_in_both_passes(tiny_context: ExperimentContext) -> None:
    """With dropout in the tower, a part's second pass must see what its first has seen: their losses would differ."""
    ready = ready_to_train(tiny_context, STRATEGY)
    stem = ready.model.backbone.visual.get_submodule("conv1")
    ready.model.backbone.visual.conv1 = torch.nn.Sequential(stem, torch.nn.Dropout(0.5))
    seen: list[Tensor] = []
    ready.model.backbone.register_forward_hook(lambda _m, _i, out: seen.append(out.projected.detach().clone()))
    torch.manual_seed(0)
    ready.model.train()
    backward(ready.model, ready.loader(0).batch(0), ready.phases[0], micro_batch=4, group=process_group(), seed=5)
    first, second = seen[:3], seen[3:]
    assert len(first) == len(second) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.spawn
def test_two_processes_train_as_one(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    """Two processes over gloo end with the weights of one, in double precision, and with the same bits."""
    # Vectors of one length, from before the batch norm: it and plain triplets see no shift, so the last bias would
    # follow rounding alone.
    seen = {"losses": {**STRATEGY["losses"], "unit_length": True}, "neck": {"kind": "bn", "embedding": "before"}}
    strategy = {**STRATEGY, **seen, "optim": {"batch_size": 12, "lr": 1e-3, "ema": 0.9}}
    with process_pair(one_of_two, tiny_context.settings, strategy, tmp_path):
        alone = ready_to_train(tiny_context, strategy)
        trained(alone)
        expected = score(alone.context, alone.model, alone.inputs(0), "val").mean("map")
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(results[0]["weights"][name], value) for name, value in results[1]["weights"].items())
    assert results[0]["map"] == results[1]["map"] == pytest.approx(expected, abs=1e-3)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(results[0]["weights"][name], value, rtol=1e-5, atol=1e-6, msg=name)


def one_of_two(rank: int, settings: BackboneSettings, strategy: dict[str, object], folder: Path) -> None:
    """Train in a process group of two and save weights and score."""
    ready = ready_to_train(open_context(TINY_DATA, settings, torch.device("cpu")), strategy)
    weights = trained(ready)
    found = score(ready.context, ready.model, ready.inputs(0), "val").mean("map")
    torch.save({"weights": weights, "map": found}, folder / f"{rank}.pt")
