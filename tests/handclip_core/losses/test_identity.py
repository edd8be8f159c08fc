import math

import pytest
import torch

from handclip_core.losses.identity import cross_entropy
from tests.handclip_core.losses.conftest import batch_of, differentiated, output_of, random


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("labels", [[0, 3, 2, 1, 1], [2, 2, 2], [4]])
def test_cross_entropy_is_the_slow_sum(smoothing: float, labels: list[int]) -> None:
    logits = (3 * random(len(labels), 5, seed=len(labels))).requires_grad_()
    value = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels, strict=True):
        total = sum(math.exp(logit) for logit in row.tolist())
        for k in range(5):
            target = smoothing / 5 + (1 - smoothing) * (k == label)
            probability = row[k].exp() / row.exp().sum()
            assert probability.item() == pytest.approx(math.exp(row[k].item()) / total)
            value = value - target * probability.log() / len(labels)
    expected = differentiated(value, logits)
    loss = cross_entropy(smoothing=smoothing)(output_of(logits), batch_of(torch.tensor(labels)))
    torch.testing.assert_close(differentiated(loss, logits), expected)


def test_bfloat16_logits_give_a_float32_loss() -> None:
    logits = random(3, 4, seed=0).bfloat16().requires_grad_()
    labels = batch_of(torch.tensor([0, 1, 2]))
    found = cross_entropy()(output_of(logits), labels)
    assert found.dtype == torch.float32
    assert found.item() == cross_entropy()(output_of(logits.float()), labels).item()
