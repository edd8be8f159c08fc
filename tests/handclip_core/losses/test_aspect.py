import dataclasses

import pytest
import torch
from torch import Tensor

from handclip_core.losses.aspect import aspect_cross_entropy
from handclip_core.types import ASPECT_INDEX, Aspect
from tests.handclip_core.losses.conftest import batch_of, differentiated, output_of, random


def loss_of(logits: Tensor, aspects: list[Aspect]) -> Tensor:
    indices = torch.tensor([ASPECT_INDEX[aspect] for aspect in aspects])
    batch = dataclasses.replace(batch_of(torch.zeros(len(aspects), dtype=torch.int64)), aspects=indices)
    output = dataclasses.replace(output_of(torch.zeros(len(aspects), 2)), aspect_logits=logits)
    return aspect_cross_entropy()(output, batch)


@pytest.mark.parametrize(
    "aspects",
    [
        list(Aspect),
        [Aspect.PALMAR_LEFT] * 3,
        [Aspect.UNKNOWN, Aspect.DORSAL_LEFT, Aspect.UNKNOWN],
    ],
)
def test_it_is_the_slow_sum_over_images_of_known_aspect(aspects: list[Aspect]) -> None:
    logits = random(len(aspects), len(Aspect), seed=len(aspects)).requires_grad_()
    known = [(row, aspect) for row, aspect in zip(logits, aspects, strict=True) if aspect is not Aspect.UNKNOWN]
    value = torch.zeros((), dtype=torch.float64)
    for row, aspect in known:
        value = value - (row[ASPECT_INDEX[aspect]].exp() / row.exp().sum()).log() / len(known)
    expected = differentiated(value, logits)
    torch.testing.assert_close(differentiated(loss_of(logits, aspects), logits), expected)


def test_unknown_aspects_alone_give_a_zero_with_a_gradient() -> None:
    logits = random(2, len(Aspect), seed=0).bfloat16().requires_grad_()
    value, gradient = differentiated(loss_of(logits, [Aspect.UNKNOWN] * 2), logits)
    assert value.item() == 0
    assert gradient.eq(0).all()
