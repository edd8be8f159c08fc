import pytest
import torch
from torch import Tensor

from handclip_core.losses.pairs import PairLoss, Pairs, within_batch
from handclip_core.losses.reading import ReadFrom, reader
from handclip_core.losses.term import Loss
from tests.handclip_core.losses.conftest import (
    LABELS,
    Images,
    PairCase,
    batch_of,
    differentiated,
    output_of,
    random,
    relations,
)


def in_batch(loss: PairLoss) -> Loss:
    return within_batch(loss, reader(ReadFrom.EMBEDDING))


def by_loop(case: PairCase, images: Images) -> tuple[Tensor, Tensor]:
    """Value and gradient of the loop, where all images of the batch are anchors and references."""
    vectors = images.vectors.clone().requires_grad_()
    relation = relations(images.labels, images.labels, own=list(range(len(vectors))))
    rows = list(vectors)
    return differentiated(case.loop(rows, rows, relation) + 0 * vectors.sum(), vectors)


def test_a_loss_and_its_gradient_are_those_of_the_loop(pair_case: PairCase, images: Images) -> None:
    expected, gradient = by_loop(pair_case, images)
    found, found_gradient = images.value_and_gradient(in_batch(pair_case.loss))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-7, atol=1e-10)


def test_float32_is_close_to_the_loop(pair_case: PairCase, images: Images) -> None:
    expected, gradient = by_loop(pair_case, images)
    found, found_gradient = images.value_and_gradient(in_batch(pair_case.loss), torch.float32)
    assert found.dtype == found_gradient.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_gradient.double(), gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("labels", ["one class", "strangers"])
def test_without_positives_or_negatives_the_loss_is_zero_with_a_gradient(pair_case: PairCase, labels: str) -> None:
    classes = torch.tensor(LABELS[labels])
    images = Images(random(len(classes), 5, seed=0), classes)
    value, gradient = images.value_and_gradient(in_batch(pair_case.loss), torch.float32)
    assert value.item() == 0
    assert gradient.eq(0).all()


def test_half_precision_under_autocast_is_computed_in_float32(pair_case: PairCase) -> None:
    images = Images(random(8, 5, seed=3).bfloat16(), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    expected, _ = images.value_and_gradient(in_batch(pair_case.loss), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, gradient = images.value_and_gradient(in_batch(pair_case.loss), torch.bfloat16)
    assert found.dtype == torch.float32
    assert found.item() == expected.item() > 0
    assert gradient.isfinite().all()


def test_gradients_stay_finite_for_identical_images(pair_case: PairCase) -> None:
    vectors = random(1, 5, seed=0).float().repeat(32, 1).requires_grad_()
    loss = in_batch(pair_case.loss)(output_of(vectors), batch_of(torch.arange(32) // 4))
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("pair_case", ["hard", "semihard", "supcon", "infonce"], indirect=True)
def test_the_derivative_is_that_of_the_loss(pair_case: PairCase) -> None:
    """All but the circle loss, which leaves its weights out of the derivative."""
    loss = in_batch(pair_case.loss)
    batch = batch_of(torch.tensor([0, 0, 1, 1, 1, 2]))
    vectors = random(6, 4, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(output_of(v), batch), vectors)


def test_an_anchor_takes_part_with_a_positive_and_a_negative() -> None:
    positive = torch.tensor([[True, False], [False, False], [True, True]])
    negative = torch.tensor([[False, True], [True, True], [False, False]])
    pairs = Pairs(torch.zeros(3, 1), torch.zeros(2, 1), positive=positive, negative=negative)
    assert pairs.complete.tolist() == [True, False, False]
    anchor, reference, other, stranger = pairs.indices()
    assert [anchor.tolist(), reference.tolist()] == [[0, 2, 2], [0, 0, 1]]
    assert [other.tolist(), stranger.tolist()] == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_any_pattern_give_the_loss_of_the_loop(pair_case: PairCase, seed: int) -> None:
    """Anchors without a positive, without a negative, and without either."""
    kind = torch.randint(-1, 2, (7, 9), generator=torch.Generator().manual_seed(seed))
    kind[0], kind[1, kind[1] < 0], kind[2, kind[2] > 0] = 0, 0, 0
    anchors, references = random(7, 5, seed=seed).requires_grad_(), random(9, 5, seed=seed + 50)
    pairs = Pairs(anchors, references, positive=kind == 1, negative=kind == -1)
    expected = differentiated(pair_case.loop(list(anchors), list(references), kind.tolist()), anchors)
    torch.testing.assert_close(differentiated(pair_case.loss(pairs), anchors), expected)
    assert expected[0] > 0
