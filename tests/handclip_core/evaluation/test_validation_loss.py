"""Validation losses beside slow loops, and beside other people's code where it computes the same."""

from math import exp, isnan, log

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn import functional as F

from handclip_core.evaluation import validation_loss as module
from handclip_core.evaluation.validation_loss import TEMPERATURE, loss_among, loss_between


def vectors(num: int, *, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(num, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("block", [1, 30, 1 << 20])
def test_among_images_as_a_slow_loop_says_in_parts_too(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    images, labels = vectors(11), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4])
    each = []
    for query in range(11):
        belief = [exp(float(images[query] @ images[other]) / TEMPERATURE) for other in range(11)]
        right = [other for other in range(11) if other != query and labels[other] == labels[query]]
        if right:
            everyone = sum(belief) - belief[query]
            each.append(-log(sum(belief[other] for other in right) / everyone))
    assert len(each) == 9
    assert loss_among(images, labels) == pytest.approx(sum(each) / 9, abs=1e-6)


def test_nobody_with_a_match_has_no_loss() -> None:
    assert isnan(loss_among(vectors(3), np.arange(3)))


def test_one_caption_an_image_is_the_loss_of_clip() -> None:
    images, texts, order = vectors(7), vectors(7, seed=1), np.random.default_rng(0).permutation(7)
    expected = ClipLoss()(images, texts[torch.from_numpy(order)], torch.tensor(1 / 0.05)).item()
    assert loss_between(images, texts, (np.arange(7), order), temperature=0.05) == pytest.approx(expected, abs=1e-5)


def test_any_of_several_captions_is_right_for_an_image_and_any_of_several_images_for_a_caption() -> None:
    images, texts = vectors(3), vectors(4, seed=1)
    image, text = np.array([2, 0, 0, 1, 2]), np.array([3, 0, 1, 1, 2])
    logits = images.double() @ texts.double().T / 0.1
    wanted = torch.zeros(3, 4, dtype=torch.bool)
    wanted[torch.from_numpy(image), torch.from_numpy(text)] = True
    by_image = -torch.stack([row.softmax(0)[right].sum().log() for row, right in zip(logits, wanted, strict=True)])
    by_text = -torch.stack([row.softmax(0)[right].sum().log() for row, right in zip(logits.T, wanted.T, strict=True)])
    expected = float(by_image.mean() + by_text.mean()) / 2
    assert loss_between(images, texts, (image, text), temperature=0.1) == pytest.approx(expected, abs=1e-6)
