import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses
from torch import Tensor

from handclip_core.losses.margin import arcface, cosface
from handclip_core.losses.term import Loss
from handclip_core.models.heads import CosineHead
from tests.handclip_core.losses.conftest import batch_of, differentiated, output_of, random

BUILDERS: dict[str, Callable[..., Loss]] = {"arcface": arcface, "cosface": cosface}
AWKWARD = [[0, 1, 2, 3, 0], [2, 2, 2], [1]]


def arcface_entry(cosine: Tensor, margin: float) -> Tensor:
    theta = cosine.acos()
    return (theta + margin).cos() if theta.item() + margin <= math.pi else cosine - margin * math.sin(margin)


def by_loop(kind: str, cosines: Tensor, labels: list[int], *, margin: float, scale: float, smoothing: float) -> Tensor:
    losses_found = []
    for row, label in zip(cosines, labels, strict=True):
        entries = list(row)
        entries[label] = arcface_entry(row[label], margin) if kind == "arcface" else row[label] - margin
        exponentials = [(scale * entry).exp() for entry in entries]
        logs = [(e / torch.stack(exponentials).sum()).log() for e in exponentials]
        targets = [smoothing / len(entries) + (1 - smoothing) * (k == label) for k in range(len(entries))]
        losses_found.append(-torch.stack([t * log for t, log in zip(targets, logs, strict=True)]).sum())
    return torch.stack(losses_found).mean()


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("labels", AWKWARD)
@pytest.mark.parametrize(("margin", "scale", "smoothing"), [(0.5, 16.0, 0.0), (0.35, 64.0, 0.1), (1.5, 4.0, 0.0)])
def test_a_margin_loss_is_the_slow_sum(
    kind: str, labels: list[int], margin: float, scale: float, smoothing: float
) -> None:
    for seed in range(3):
        cosines = (2 * torch.rand(len(labels), 4, generator=torch.Generator().manual_seed(seed)) - 1).double()
        cosines.requires_grad_()
        value = by_loop(kind, cosines, labels, margin=margin, scale=scale, smoothing=smoothing)
        expected = differentiated(value, cosines)
        loss = BUILDERS[kind](margin=margin, scale=scale, smoothing=smoothing)
        found = differentiated(loss(output_of(cosines), batch_of(torch.tensor(labels))), cosines)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "peer"),
    [
        (arcface(margin=0.5, scale=30.0), losses.ArcFaceLoss(5, 6, margin=math.degrees(0.5), scale=30)),
        (cosface(margin=0.35, scale=64.0), losses.CosFaceLoss(5, 6, margin=0.35, scale=64)),
    ],
)
def test_loss_and_head_agree_with_the_library(loss: Loss, peer: Any, seed: int) -> None:
    head = CosineHead(6, 5).double()
    vectors = random(9, 6, seed=seed).requires_grad_()
    batch = batch_of(torch.arange(9) % 5)
    peer.W.data = head.weight.detach().T.clone()
    expected = peer(vectors, batch.labels)
    gradients = torch.autograd.grad(expected, [vectors, peer.W])
    found = loss(output_of(vectors, logits=head(vectors)), batch)
    ours = torch.autograd.grad(found, [vectors, head.weight])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, (gradients[0], gradients[1].T))


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_derivative_is_that_of_the_loss(kind: str) -> None:
    loss, batch = BUILDERS[kind](margin=0.4, scale=8.0, smoothing=0.1), batch_of(torch.tensor([0, 1, 2, 0]))
    cosines = (1.8 * torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) - 0.9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: loss(output_of(c), batch), cosines)


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("cosine", [-1.0, 1.0, 1.0 + 1e-6])
def test_gradients_stay_finite_at_the_ends(kind: str, cosine: float) -> None:
    cosines = torch.full((2, 3), cosine, requires_grad=True)
    loss = BUILDERS[kind](margin=0.5, scale=64.0)(output_of(cosines), batch_of(torch.tensor([0, 2])))
    value, gradient = differentiated(loss, cosines)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", BUILDERS)
def test_no_margin_is_a_scaled_softmax(kind: str) -> None:
    cosines = torch.tensor([[0.3, -0.2], [0.9, 0.5]])
    labels = torch.tensor([0, 1])
    found = BUILDERS[kind](margin=0.0, scale=5.0)(output_of(cosines), batch_of(labels))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(5 * cosines, labels))
