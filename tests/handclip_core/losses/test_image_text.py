import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from handclip_core.losses.image_text import image_text_cross_entropy, image_text_supcon
from handclip_core.losses.term import Loss
from handclip_core.types import Encoded, Output, Texts
from tests.handclip_core.losses.conftest import batch_of, cosine, mean, output_of, random

IMAGES = [0, 0, 1, 2, 2, 2]
TEXTS = {
    "one a class": [0, 1, 2, 3],
    "several a class": [0, 0, 1, 2, 2],
    "some classes": [0, 2],
    "by image": IMAGES,
}
TAU = 0.2


def output_with(images: Tensor, texts: Tensor, labels: list[int]) -> Output:
    """Images are read from the projected embedding and from nothing else."""
    nothing = torch.full_like(images, torch.nan)
    encoded = Encoded(features=nothing, projected=images)
    return dataclasses.replace(
        output_of(nothing), encoded=encoded, texts=Texts(embedding=texts, labels=torch.tensor(labels))
    )


def cross_entropy_loop(images: Tensor, texts: Tensor, labels: list[int], smoothing: float = 0.1) -> Tensor:
    losses = []
    for image, own in zip(images, IMAGES, strict=True):
        terms = [(cosine(image, text) / TAU).exp() for text in texts]
        logs = [(term / torch.stack(terms).sum()).log() for term in terms]
        if own in labels:
            share = 1 / labels.count(own)
            targets = [smoothing / len(terms) + (1 - smoothing) * share * (label == own) for label in labels]
            losses.append(-torch.stack([q * log for q, log in zip(targets, logs, strict=True)]).sum())
    return mean(losses)


def one_way(anchors: Tensor, own: list[int], others: Tensor, labels: list[int]) -> Tensor:
    losses = []
    for anchor, mine in zip(anchors, own, strict=True):
        terms = [(cosine(anchor, other) / TAU).exp() for other in others]
        logs = [-(t / torch.stack(terms).sum()).log() for t, label in zip(terms, labels, strict=True) if label == mine]
        if logs:
            losses.append(mean(logs))
    return mean(losses)


def supcon_loop(images: Tensor, texts: Tensor, labels: list[int]) -> Tensor:
    return one_way(images, IMAGES, texts, labels) + one_way(texts, labels, images, IMAGES)


LOSSES: dict[str, tuple[Loss, Callable[[Tensor, Tensor, list[int]], Tensor]]] = {
    "cross-entropy": (image_text_cross_entropy(temperature=TAU, smoothing=0.1), cross_entropy_loop),
    "supcon": (image_text_supcon(temperature=TAU), supcon_loop),
}


def drawn(num_texts: int, seed: int) -> tuple[Tensor, Tensor]:
    return random(len(IMAGES), 5, seed=seed).requires_grad_(), random(num_texts, 5, seed=seed + 50).requires_grad_()


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_and_its_gradients_are_those_of_the_loop(kind: str, texts: str, seed: int) -> None:
    loss, loop = LOSSES[kind]
    labels = TEXTS[texts]
    leaves = drawn(len(labels), seed)
    expected = loop(*leaves, labels)
    gradients = torch.autograd.grad(expected, leaves)
    found = loss(output_with(*leaves, labels), batch_of(torch.tensor(IMAGES)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, leaves), gradients)


@pytest.mark.parametrize("kind", LOSSES)
def test_the_derivative_is_that_of_the_loss(kind: str) -> None:
    loss, batch = LOSSES[kind][0], batch_of(torch.tensor(IMAGES))
    assert torch.autograd.gradcheck(lambda v, t: loss(output_with(v, t, [0, 1, 2]), batch), drawn(3, seed=1))


@pytest.mark.parametrize("kind", LOSSES)
def test_images_without_a_text_give_a_zero_with_a_gradient(kind: str) -> None:
    images, texts = drawn(2, seed=0)
    found = LOSSES[kind][0](output_with(images, texts, [7, 8]), batch_of(torch.tensor(IMAGES)))
    (gradient,) = torch.autograd.grad(found, images)
    assert found.item() == 0
    assert gradient.eq(0).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_half_precision_under_autocast_is_computed_in_float32(kind: str) -> None:
    images, texts = (tensor.detach().bfloat16() for tensor in drawn(3, seed=2))
    batch = batch_of(torch.tensor(IMAGES))
    expected = LOSSES[kind][0](output_with(images.float(), texts.float(), [0, 1, 2]), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[kind][0](output_with(images, texts, [0, 1, 2]), batch)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()
