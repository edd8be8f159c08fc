"""In bfloat16 towers compute in half the bits; weights, losses and heads on encoded images do not."""

import pytest
import torch
from torch import Tensor

from handclip_core.engine.gradients import backward
from handclip_core.engine.precision import Precision
from handclip_core.process_group import process_group
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Assembled, Experiment, assemble

HIGH, LOW = Precision.FLOAT32, Precision.BFLOAT16


def ready_to_train(context: ExperimentContext, name: str) -> Assembled:
    strategy = {"name": name, "optim": {"batch_size": 12, "lr": 1e-3}, "neck": {"kind": "bn"}}
    return assemble(Experiment.model_validate({"strategy": strategy, "data": {"source": "drawn"}}), context)


def gradients(ready: Assembled, precision: Precision, micro_batch: int | None = None) -> dict[str, Tensor]:
    """Of the first step; the model's weights are float32 before and after."""
    ready.model.train().zero_grad()
    batch, group = ready.loader(0).batch(0), process_group()
    found = backward(
        ready.model, batch, ready.phases[0], micro_batch=micro_batch, group=group, seed=5, precision=precision
    )
    assert found.total.dtype == torch.float32
    assert {weights.dtype for weights in ready.model.parameters()} == {torch.float32}
    return {name: p.grad.clone() for name, p in ready.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_gradients_differ_by_what_the_bits_leave_out(tiny_context: ExperimentContext, micro_batch: int | None) -> None:
    ready = ready_to_train(tiny_context, "full")
    high, low = (gradients(ready, precision, micro_batch) for precision in (HIGH, LOW))
    assert high.keys() == low.keys()
    size, gap = (
        torch.stack([values.norm() for values in found]).norm()
        for found in (list(high.values()), [low[name] - high[name] for name in high])
    )
    assert 1e-4 < gap / size < 0.2
    assert {values.dtype for values in low.values()} == {torch.float32}


def test_a_head_alone_stays_as_it_is(tiny_context: ExperimentContext) -> None:
    ready = ready_to_train(tiny_context, "linear_probe")
    high, low = (gradients(ready, precision) for precision in (HIGH, LOW))
    assert all(torch.equal(low[name], high[name]) for name in high)
