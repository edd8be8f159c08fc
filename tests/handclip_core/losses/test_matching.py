"""Losses between images and captions against open_clip's and slow loops."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.matching import (
    Matched,
    MatchedLoss,
    clip_loss,
    infonce_loss,
    on_captions,
    sigmoid_loss,
    triplet_loss,
)
from handclip_core.losses.mining import Mining
from handclip_core.losses.negatives import Negatives, chosen_negatives
from handclip_core.types import Batch, Encoded, Matching, Output

B, D = 6, 5


def matched(*, shared: bool = True, dtype: torch.dtype = torch.float64) -> Matched:
    """Six images; with ``shared``, captions 0 and 1 are those of both of their images, and 4 describes image 5 too."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(B, D, generator=generator, dtype=dtype) for _ in range(2))
    positive = torch.eye(B, dtype=torch.bool)
    if shared:
        positive[0, 1] = positive[1, 0] = positive[5, 4] = True
    scale, bias = torch.tensor(7.0, dtype=dtype), torch.tensor(-3.0, dtype=dtype)
    return Matched(F.normalize(images, dim=1), F.normalize(texts, dim=1), positive, scale, bias)


def with_gradients(loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
    """A loss of images, texts, scale and bias, and its gradients."""
    given = matched()
    leaves = [one.clone().requires_grad_() for one in (given.images, given.texts, given.scale, given.bias)]
    value = loss(*leaves)
    value.backward()
    return (value.detach(), *(one.grad for one in leaves if one.grad is not None))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (clip_loss, lambda images, texts, scale, _: ClipLoss()(images, texts, scale)),
        (sigmoid_loss, lambda *given: SigLipLoss()(*given)),
    ],
)
def test_without_shared_captions_loss_and_gradients_are_those_of_open_clip(
    ours: MatchedLoss, theirs: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
) -> None:
    own = torch.eye(B, dtype=torch.bool)
    found = with_gradients(lambda images, texts, scale, bias: ours(Matched(images, texts, own, scale, bias)))
    for one, other in zip(found, with_gradients(theirs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def slow_clip(given: Matched) -> float:
    """Of each image, its own caption among those that do not describe it; and back."""
    total = 0.0
    for cosines, positive in (
        (given.images @ given.texts.T, given.positive),
        (given.texts @ given.images.T, given.positive.T),
    ):
        for i in range(B):
            logits = [7.0 * cosines[i, j].item() for j in range(B) if j == i or not positive[i, j]]
            total += math.log(sum(map(math.exp, logits))) - 7.0 * cosines[i, i].item()
    return total / (2 * B)


def stands_against(given: Matched, positive: Tensor, i: int, k: int) -> bool:
    """Whether k counts as a negative of the anchor i, by what is positive in one direction."""
    return not positive[i, k] and (given.counted is None or bool(given.counted[i, k]))


def slow_infonce(given: Matched) -> float:
    """Every positive in turn among the negatives of its anchor; and back."""
    means = []
    for cosines, positive in (
        (given.images @ given.texts.T, given.positive),
        (given.texts @ given.images.T, given.positive.T),
    ):
        values = []
        for i in range(B):
            wrong = sum(math.exp(7.0 * cosines[i, k].item()) for k in range(B) if stands_against(given, positive, i, k))
            right = [math.exp(7.0 * cosines[i, j].item()) for j in range(B) if positive[i, j]]
            values += [-math.log(one / (one + wrong)) for one in right]
        means.append(sum(values) / len(values))
    return sum(means) / 2


def slow_sigmoid(given: Matched) -> float:
    total = 0.0
    for i in range(B):
        for j in range(B):
            sign = 1 if given.positive[i, j] else -1
            total += math.log1p(math.exp(-sign * (7.0 * (given.images[i] @ given.texts[j]).item() - 3.0)))
    return total / B


def slow_triplet(given: Matched) -> float:
    """The farthest positive and the nearest negative of each anchor, by Euclidean distance; and back."""
    means = []
    for ours, theirs, positive in (
        (given.images, given.texts, given.positive),
        (given.texts, given.images, given.positive.T),
    ):
        values = []
        for i in range(B):
            distance = [(ours[i] - theirs[j]).norm().item() for j in range(B)]
            right = max(distance[j] for j in range(B) if positive[i, j])
            wrong = min(distance[j] for j in range(B) if stands_against(given, positive, i, j))
            values.append(max(0.0, right - wrong + 0.2))
        means.append(sum(values) / len(values))
    return float(sum(means) / 2)


@pytest.mark.parametrize(
    ("loss", "slow"),
    [
        (clip_loss, slow_clip),
        (infonce_loss, slow_infonce),
        (sigmoid_loss, slow_sigmoid),
        (triplet_loss(margin=0.2, mining=Mining.HARD), slow_triplet),
    ],
)
def test_captions_that_several_images_share_are_no_negatives(
    loss: MatchedLoss, slow: Callable[[Matched], float]
) -> None:
    assert loss(matched()).item() == pytest.approx(slow(matched()), rel=1e-6)


def test_semi_hard_triplets_are_those_within_the_margin() -> None:
    given = matched()
    values = []
    for ours, theirs, positive in (
        (given.images, given.texts, given.positive),
        (given.texts, given.images, given.positive.T),
    ):
        distance = (ours[:, None] - theirs[None]).square().sum(dim=2)
        found = [
            (distance[i, j] - distance[i, k] + 0.5).item()
            for i in range(B)
            for j in range(B)
            for k in range(B)
            if positive[i, j] and not positive[i, k] and 0 < distance[i, k] - distance[i, j] < 0.5
        ]
        values.append(sum(found) / len(found))
    loss = triplet_loss(margin=0.5, mining=Mining.SEMIHARD)(given)
    assert loss.item() == pytest.approx(sum(values) / 2, rel=1e-6)


def test_vectors_of_any_length_and_half_precision_are_compared_as_float32() -> None:
    given = matched(dtype=torch.float32)
    encoded = Encoded(features=given.images, projected=3 * given.images)
    labels = torch.arange(B)
    batch = Batch(encoded, labels, labels, labels)
    matching = Matching(5 * given.texts, given.positive, given.scale, given.bias)
    output = Output(encoded, encoded.projected, encoded.projected, matching=matching)
    assert on_captions(clip_loss)(output, batch).item() == pytest.approx(clip_loss(given).item(), rel=1e-5)
    half = replace(output, matching=replace(matching, texts=matching.texts.bfloat16()))
    assert on_captions(clip_loss)(half, batch).dtype == torch.float32


def chosen_slowly(kind: Negatives, num: int, given: Matched) -> list[set[int]]:
    """The pairs most like each pair, among those that are no positives of it either way."""
    vectors = given.texts if kind is Negatives.BY_TEXT else given.images
    found = []
    for i in range(B):
        others = [j for j in range(B) if not given.positive[i, j] and not given.positive[j, i]]
        likeness = {j: float(vectors[i] @ vectors[j]) for j in others}
        found.append(set(sorted(others, key=likeness.__getitem__, reverse=True)[:num]))
    return found


@pytest.mark.parametrize("kind", [Negatives.BY_TEXT, Negatives.BY_IMAGE])
@pytest.mark.parametrize("num", [1, 3, 50])
def test_negatives_are_those_most_like_the_anchors_own_pair(kind: Negatives, num: int) -> None:
    given = matched()
    found = chosen_negatives(kind, num, images=given.images, texts=given.texts, positive=given.positive)
    assert [set(torch.where(row)[0].tolist()) for row in found] == chosen_slowly(kind, num, given)


def test_random_negatives_follow_the_seed_and_leave_out_positives() -> None:
    given, drawn = matched(), []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        how = {"images": given.images, "texts": given.texts, "positive": given.positive}
        drawn.append(chosen_negatives(Negatives.RANDOM, 2, **how))
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn[2:])
    assert all((one.sum(dim=1) == 2).all() and not (one & given.positive).any() for one in drawn)


def test_only_chosen_negatives_stand_against_an_anchor() -> None:
    given = matched()
    chosen = chosen_slowly(Negatives.BY_TEXT, 2, given)
    counted = torch.zeros(B, B, dtype=torch.bool)
    for i, others in enumerate(chosen):
        counted[i, list(others)] = True
    few = replace(given, counted=counted)
    total = pairs = 0.0
    for cosines in (given.images @ given.texts.T, given.texts @ given.images.T):
        for i, others in enumerate(chosen):
            terms = [math.exp(float(given.scale * cosines[i, j])) for j in (i, *others)]
            total += -math.log(terms[0] / sum(terms)) / (2 * B)
    assert float(clip_loss(few)) == pytest.approx(total)
    for i in range(B):
        for j in range(B):
            if given.positive[i, j] or j in chosen[i] or i in chosen[j]:
                logit = float(given.scale * given.images[i] @ given.texts[j] + given.bias)
                pairs += math.log1p(math.exp(-logit if given.positive[i, j] else logit)) / B
    assert float(sigmoid_loss(few)) == pytest.approx(pairs)
    for loss, slow in (
        (triplet_loss(margin=0.2, mining=Mining.HARD), slow_triplet),
        (infonce_loss, slow_infonce),
    ):
        assert float(loss(few)) == pytest.approx(slow(few), rel=1e-6)
        assert float(loss(few)) != pytest.approx(slow(given), rel=1e-6)
