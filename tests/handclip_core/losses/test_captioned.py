"""Images before the captions of their manifest rows."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from handclip_core.losses.captioned import CaptionedLoss
from handclip_core.losses.settings import ImageTextKind, ImageTextSettings
from handclip_core.types import Batch, Encoded
from tests.handclip_core.losses.conftest import batch_of, output_of, random

ROWS = [4, 0, 2, 2]
CAPTION_OF_ROW = [1, -1, 0, -1, 2]
CAPTION = [2, 1, 0, 0]


def batch() -> Batch:
    """Images of four different identities, two of which share a caption."""
    return dataclasses.replace(batch_of(torch.tensor([9, 8, 7, 6])), rows=torch.tensor(ROWS))


@pytest.mark.parametrize("kind", ImageTextKind)
def test_a_image_is_compared_with_the_caption_of_its_row(kind: ImageTextKind) -> None:
    images, texts = random(4, 5, seed=1).double().requires_grad_(), random(3, 5, seed=2).double()
    settings = ImageTextSettings(weight=1.0, kind=kind, smoothing=0.0, temperature=2.0)
    loss = CaptionedLoss(settings.build(trained_at=0.25), texts, torch.tensor(CAPTION_OF_ROW))
    found = loss(dataclasses.replace(output_of(images), encoded=Encoded(images * torch.nan, images)), batch())
    cosines = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T / 0.5
    expected = -torch.stack([cosines[i].log_softmax(0)[text] for i, text in enumerate(CAPTION)]).mean()
    if kind is ImageTextKind.SUPCON:
        back = cosines.T.log_softmax(dim=1)
        expected = expected - (back[0, 2:].mean() + back[1, 1] + back[2, 0]) / 3
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, images, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_captions_are_in_no_checkpoint() -> None:
    loss = CaptionedLoss(ImageTextSettings().build(trained_at=0.1), random(3, 5, seed=2), torch.tensor(CAPTION_OF_ROW))
    assert isinstance(loss, nn.Module)
    assert loss.state_dict() == {}
