from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses

from handclip_core.losses.contrastive import infonce
from handclip_core.losses.pairs import within_batch
from handclip_core.losses.reading import ReadFrom, reader
from tests.handclip_core.losses.conftest import Images, random

READ = reader(ReadFrom.EMBEDDING)


@pytest.mark.parametrize("seed", range(5))
def test_infonce_agrees_with_the_library(seed: int) -> None:
    images = Images(random(12, 7, seed=seed), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]))
    library: Any = losses.NTXentLoss(temperature=0.07)
    vectors = images.vectors.clone().requires_grad_()
    expected = library(vectors, images.labels)
    (gradient,) = torch.autograd.grad(expected, vectors)
    found = images.value_and_gradient(within_batch(infonce(temperature=0.07), READ))
    torch.testing.assert_close(found, (expected.detach(), gradient))


def test_infonce_still_pulls_pairs_that_are_far_apart() -> None:
    vectors = torch.tensor([[1.0, 0.1], [-1.0, 0.1], [1.0, 0.0]])
    images = Images(vectors, torch.tensor([0, 0, 1]))
    value, gradient = images.value_and_gradient(within_batch(infonce(temperature=0.01), READ), torch.float32)
    assert value.item() > 90
    assert gradient[0].norm() > 1
