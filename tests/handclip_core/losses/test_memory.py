import itertools
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor

from handclip_core.losses.memory import CrossBatchMemory
from handclip_core.losses.metric import supcon
from handclip_core.losses.reading import ReadFrom, reader
from tests.handclip_core.losses.conftest import (
    WIDTH,
    PairCase,
    batch_of,
    differentiated,
    output_of,
    random,
    relations,
)

READ = reader(ReadFrom.EMBEDDING)
SIZES = (5, 3, 7, 5, 2, 2, 6)
"""Images of each batch in turn."""


def memory_of(case: PairCase, size: int, dtype: torch.dtype = torch.float64) -> CrossBatchMemory:
    return CrossBatchMemory(case.loss, READ, size=size, width=WIDTH).to(dtype)


def batches(dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    """Vectors [B, WIDTH] and classes [B] of one step after another."""
    generator = torch.Generator().manual_seed(1)
    labels = [torch.randint(0, 3, (size,), generator=generator) for size in SIZES]
    return [(random(len(each), WIDTH, seed=step).to(dtype), each) for step, each in enumerate(labels)]


def run(memory: CrossBatchMemory, steps: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient of every step."""
    found = []
    for vectors, labels in steps:
        leaf = vectors.clone().requires_grad_()
        found.append(differentiated(memory(output_of(leaf), batch_of(labels)), leaf))
    return found


@pytest.mark.parametrize("size", [1, 4, 11, 100])
def test_a_memory_is_a_list_of_the_last_images(pair_case: PairCase, size: int) -> None:
    memory = memory_of(pair_case, size)
    kept: list[tuple[Tensor, int, int]] = []
    serial = itertools.count()
    for (vectors, labels), found in zip(batches(), run(memory, batches()), strict=True):
        new = [(vector, label, next(serial)) for vector, label in zip(vectors, labels.tolist(), strict=True)]
        kept = (kept + new)[-size:]
        where = {number: place for place, (_, _, number) in enumerate(kept)}
        own = [where.get(number) for _, _, number in new]
        relation = relations(labels, torch.tensor([label for _, label, _ in kept]), own)
        leaf = vectors.clone().requires_grad_()
        value = pair_case.loop(list(leaf), [vector for vector, _, _ in kept], relation) + 0 * leaf.sum()
        torch.testing.assert_close(found, differentiated(value, leaf))


def test_a_memory_agrees_with_the_library_while_it_fills_and_after() -> None:
    ours = CrossBatchMemory(supcon(temperature=0.1), READ, size=20, width=WIDTH).double()
    peer: Any = losses.CrossBatchMemory(losses.SupConLoss(temperature=0.1), WIDTH, memory_size=20)
    labels = torch.arange(8) // 2
    for step in range(6):
        vectors = random(8, WIDTH, seed=step)
        torch.testing.assert_close(ours(output_of(vectors), batch_of(labels)), peer(vectors, labels))


def test_a_run_resumed_at_any_step_goes_on_bit_for_bit(pair_case: PairCase) -> None:
    steps = batches(torch.float32)
    whole = run(memory_of(pair_case, 9, torch.float32), steps)
    for cut in range(len(steps)):
        before, after = memory_of(pair_case, 9, torch.float32), memory_of(pair_case, 9, torch.float32)
        run(before, steps[:cut])
        after.load_state_dict(before.state_dict())
        for found, expected in zip(run(after, steps[cut:]), whole[cut:], strict=True):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])


def test_a_saved_state_does_not_change_with_later_steps(pair_case: PairCase) -> None:
    memory = memory_of(pair_case, 9)
    run(memory, batches()[:2])
    saved = memory.state_dict()
    copies = {name: value.clone() for name, value in saved.items()}
    run(memory, batches()[2:])
    assert all(torch.equal(saved[name], copies[name]) for name in copies)


def test_shapes_are_the_same_at_every_step(pair_case: PairCase) -> None:
    memory = memory_of(pair_case, 9)
    fresh = {name: (value.shape, value.dtype) for name, value in memory.state_dict().items()}
    run(memory, batches())
    assert {name: (value.shape, value.dtype) for name, value in memory.state_dict().items()} == fresh


def test_a_batch_of_strangers_in_an_empty_memory_is_a_zero_with_a_gradient(pair_case: PairCase) -> None:
    found = run(memory_of(pair_case, 9), [(random(4, WIDTH, seed=0), torch.arange(4))])
    assert found[0][0].item() == 0
    assert found[0][1].eq(0).all()


def test_earlier_images_are_compared_with(pair_case: PairCase) -> None:
    """A batch of strangers has pairs as soon as the memory holds the same identities."""
    memory = memory_of(pair_case, 9)
    strangers = [(random(4, WIDTH, seed=step), torch.arange(4)) for step in range(3)]
    values = [value.item() for value, _ in run(memory, strangers)]
    assert values[0] == 0
    assert max(values[1:]) > 0


def test_two_losses_before_one_backward_pass(pair_case: PairCase) -> None:
    memory = memory_of(pair_case, 9)
    (first, labels), (second, others) = batches()[0], batches()[3]
    leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
    values = memory(output_of(leaves[0]), batch_of(labels)), memory(output_of(leaves[1]), batch_of(others))
    found = torch.autograd.grad(values[0] + values[1], leaves)
    apart = run(memory_of(pair_case, 9), [(first, labels), (second, others)])
    assert torch.equal(found[0], apart[0][1])
    assert torch.equal(found[1], apart[1][1])
