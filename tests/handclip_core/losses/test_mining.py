import itertools

import pytest
import torch

from handclip_core.losses.mining import hardest, semi_hard
from handclip_core.losses.pairs import Pairs
from tests.handclip_core.losses.conftest import random


def drawn(seed: int) -> tuple[Pairs, torch.Tensor]:
    """Six anchors before nine references, with random pairs and distances."""
    kind = torch.randint(-1, 2, (6, 9), generator=torch.Generator().manual_seed(seed))
    kind[0], kind[1] = 1, -1
    return Pairs(torch.zeros(6, 1), torch.zeros(9, 1), positive=kind == 1, negative=kind == -1), random(6, 9, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_the_hardest_triplet_of_every_anchor(seed: int) -> None:
    pairs, distance = drawn(seed)
    expected = []
    for a in range(6):
        positives = [j for j in range(9) if pairs.positive[a, j]]
        negatives = [j for j in range(9) if pairs.negative[a, j]]
        if positives and negatives:
            farthest = max(positives, key=lambda j: distance[a, j].item())
            nearest = min(negatives, key=lambda j: distance[a, j].item())
            expected.append((a, farthest, nearest))
    assert list(zip(*(part.tolist() for part in hardest(pairs, distance)), strict=True)) == expected
    assert {a for a, _, _ in expected}.isdisjoint({0, 1})


@pytest.mark.parametrize("seed", range(5))
def test_semi_hard_triplets_lie_within_the_margin(seed: int) -> None:
    pairs, distance = drawn(seed)
    expected = [
        (a, p, n)
        for a, p, n in itertools.product(range(6), range(9), range(9))
        if pairs.positive[a, p] and pairs.negative[a, n] and 0 < distance[a, n] - distance[a, p] < 0.7
    ]
    assert list(zip(*(part.tolist() for part in semi_hard(pairs, distance, margin=0.7)), strict=True)) == expected
    assert expected
