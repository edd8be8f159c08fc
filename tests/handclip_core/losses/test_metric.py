"""Against the library's own loop of miner, loss and reducer, where these fit: batches of whole identities, no
memory.
"""

from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers

from handclip_core.losses.metric import circle, supcon, triplet
from handclip_core.losses.mining import Mining
from handclip_core.losses.pairs import within_batch
from handclip_core.losses.reading import ReadFrom, reader
from tests.handclip_core.losses.conftest import Images, random

READ = reader(ReadFrom.EMBEDDING)


def people(seed: int, num_identities: int = 5, images_each: int = 3) -> Images:
    return Images(random(num_identities * images_each, 7, seed=seed), torch.arange(num_identities).repeat(images_each))


@pytest.mark.parametrize("seed", range(5))
def test_triplets_agree_with_the_library_and_its_miners(seed: int) -> None:
    euclidean, squared = distances.LpDistance(normalize_embeddings=False), distances.LpDistance(power=2)
    group: dict[Mining, tuple[Any, Any]] = {
        Mining.HARD: (euclidean, miners.BatchHardMiner(distance=euclidean)),
        Mining.SEMIHARD: (squared, miners.TripletMarginMiner(0.2, type_of_triplets="semihard", distance=squared)),
    }
    images = people(seed)
    for mining, (distance, miner) in group.items():
        library: Any = losses.TripletMarginLoss(margin=0.2, distance=distance, reducer=reducers.MeanReducer())
        vectors = images.vectors.clone().requires_grad_()
        expected = library(vectors, images.labels, miner(vectors, images.labels))
        (gradient,) = torch.autograd.grad(expected, vectors)
        found = images.value_and_gradient(within_batch(triplet(margin=0.2, mining=mining), READ))
        torch.testing.assert_close(found, (expected.detach(), gradient))


@pytest.mark.parametrize("seed", range(5))
def test_circle_and_contrast_agree_with_the_library(seed: int) -> None:
    images = people(seed)
    group: list[tuple[Any, Any]] = [
        (circle(margin=0.25, scale=64.0), losses.CircleLoss(m=0.25, gamma=64)),
        (supcon(temperature=0.07), losses.SupConLoss(temperature=0.07)),
    ]
    for ours, library in group:
        expected = library(images.vectors, images.labels)
        found, _ = images.value_and_gradient(within_batch(ours, READ))
        torch.testing.assert_close(found, expected)


def test_easy_anchors_count_in_the_mean() -> None:
    """The library's own mean leaves out a loss that rounds to zero, and so jumps when an anchor becomes that easy."""
    vectors = torch.eye(4, dtype=torch.float64).repeat_interleave(2, dim=0)
    vectors[6:] = torch.tensor([[1.0, 0.9, 0, 0], [-1.0, 0.9, 0, 0]])
    images = Images(vectors, torch.arange(4).repeat_interleave(2))
    found, _ = images.value_and_gradient(within_batch(triplet(margin=0.1, mining=Mining.HARD), READ))
    hinges = []
    for i in range(8):
        distance = (vectors - vectors[i]).norm(dim=1)
        nearest = min(distance[j] for j in range(8) if j // 2 != i // 2)
        hinges.append(max(0.0, (distance[i ^ 1] - nearest + 0.1).item()))
    assert 0 < sum(hinge > 0 for hinge in hinges) < 8
    assert found.item() == pytest.approx(sum(hinges) / 8)
