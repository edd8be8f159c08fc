"""Which captions and images of a batch count as negatives of an anchor."""

from enum import StrEnum

import torch
from torch import Tensor


class Negatives(StrEnum):
    """How the negatives of an anchor are chosen.

    ``all`` of the batch; some at ``random``; or those that belong to what is most like the anchor's own pair, as the
    towers of the moment see it: ``by_text``, the most similar captions, ``by_image``, the most similar images.
    """

    ALL = "all"
    RANDOM = "random"
    BY_IMAGE = "by_image"
    BY_TEXT = "by_text"


def chosen_negatives(kind: Negatives, num: int, *, images: Tensor, texts: Tensor, positive: Tensor) -> Tensor:
    """Of each anchor i, the ``num`` pairs j [B, B] whose caption and image count as its negatives.

    ``images`` and ``texts`` [B, D] are unit vectors; what is ``positive`` [B, B] either way is not among
    them, unless all are asked for. Random ones come from torch's global generator.
    """
    if kind is Negatives.ALL:
        return torch.ones_like(positive)
    candidates = torch.logical_not(positive | positive.T)
    with torch.no_grad():
        likeness = {
            Negatives.RANDOM: lambda: torch.rand(positive.shape).to(images.device),
            Negatives.BY_IMAGE: lambda: images @ images.T,
            Negatives.BY_TEXT: lambda: texts @ texts.T,
        }[kind]()
        order = likeness.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
        chosen = torch.zeros_like(candidates).scatter_(1, order[:, :num], value=True)
    return chosen & candidates
