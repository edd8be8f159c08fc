import pytest
import torch
from torch import Tensor

from handclip_core.losses.center import CenterLoss
from handclip_core.losses.reading import ReadFrom, reader
from tests.handclip_core.losses.conftest import LABELS, WIDTH, batch_of, differentiated, output_of, random

READ = reader(ReadFrom.EMBEDDING)
STEPS = (*LABELS.values(), LABELS["people"], LABELS["one class"])
RATE = 0.3


def fresh(dtype: torch.dtype = torch.float64) -> CenterLoss:
    return CenterLoss(READ, num_classes=10, width=WIDTH, rate=RATE).to(dtype)


def run(loss: CenterLoss, steps: range) -> list[tuple[Tensor, Tensor]]:
    found = []
    for step in steps:
        vectors = random(len(STEPS[step]), WIDTH, seed=step).to(loss.centres.dtype).requires_grad_()
        found.append(differentiated(loss(output_of(vectors), batch_of(torch.tensor(STEPS[step]))), vectors))
    return found


def test_loss_and_centres_follow_the_paper() -> None:
    loss = fresh()
    centres: dict[int, Tensor] = {}
    for step, (value, gradient) in enumerate(run(loss, range(len(STEPS)))):
        labels = STEPS[step]
        vectors = random(len(labels), WIDTH, seed=step)
        members = {j: [x for x, label in zip(vectors, labels, strict=True) if label == j] for j in labels}
        for j, mine in members.items():
            centres.setdefault(j, torch.stack(mine).mean(dim=0))
        distances = [x - centres[j] for x, j in zip(vectors, labels, strict=True)]
        expected = sum(0.5 * d.square().sum().item() for d in distances) / len(labels)
        assert value.item() == pytest.approx(expected)
        torch.testing.assert_close(gradient, torch.stack(distances) / len(labels))
        for j, mine in members.items():
            change = torch.stack([centres[j] - x for x in mine]).sum(dim=0) / (1 + len(mine))
            centres[j] = centres[j] - RATE * change
    for j in range(10):
        torch.testing.assert_close(loss.centres[j], centres.get(j, torch.zeros(WIDTH, dtype=torch.float64)))
        assert loss.seen[j].item() == (j in centres)


def test_a_resumed_run_goes_on_bit_for_bit() -> None:
    whole = run(fresh(torch.float32), range(len(STEPS)))
    for cut in range(len(STEPS)):
        before, after = fresh(torch.float32), fresh(torch.float32)
        run(before, range(cut))
        after.load_state_dict(before.state_dict())
        for found, expected in zip(run(after, range(cut, len(STEPS))), whole[cut:], strict=True):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])


def test_the_derivative_is_that_of_the_loss() -> None:
    saved = fresh()
    run(saved, range(3))
    state = saved.state_dict()

    def value(vectors: Tensor) -> Tensor:
        loss = fresh()
        loss.load_state_dict(state)
        output: Tensor = loss(output_of(vectors), batch_of(torch.tensor([0, 1, 1])))
        return output

    assert torch.autograd.gradcheck(value, random(3, WIDTH, seed=9).requires_grad_())


def test_centres_have_no_parameters_and_draw_images_together() -> None:
    loss = fresh()
    assert list(loss.parameters()) == []
    vectors, labels = random(6, WIDTH, seed=0).requires_grad_(), torch.tensor([0, 0, 0, 1, 1, 1])
    spread = [float(vectors.detach()[:3].std(dim=0).norm())]
    for _ in range(20):
        _, gradient = differentiated(loss(output_of(vectors), batch_of(labels)), vectors)
        vectors = (vectors.detach() - 0.5 * gradient).requires_grad_()
        spread.append(float(vectors.detach()[:3].std(dim=0).norm()))
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < 0.5 * spread[0]


def test_half_precision_under_autocast_is_computed_in_float32() -> None:
    vectors = random(5, WIDTH, seed=0).bfloat16()
    batch = batch_of(torch.tensor([0, 0, 1, 1, 1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fresh(torch.float32)(output_of(vectors), batch)
    assert found.item() == fresh(torch.float32)(output_of(vectors.float()), batch).item() > 0
