"""Losses between the images of a batch and their captions, both towers trained.

Caption i was shown for image i. Another caption of the batch that describes the image too, because it has the same
words or is one more of the same image, is no negative: see ``Matching.positive``. Cosines are float32 at least.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.contrastive import infonce
from handclip_core.losses.metric import triplet
from handclip_core.losses.mining import Mining
from handclip_core.losses.negatives import Negatives, chosen_negatives
from handclip_core.losses.numerics import at_least_float32, without_autocast
from handclip_core.losses.pairs import PairLoss, Pairs
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output


@dataclass(frozen=True)
class Matched:
    """Unit vectors of images and captions [B, D] each, and which pairs ``counted`` [B, B] as negatives of each anchor.

    All do unless some were chosen; the rest is that of ``Matching``.
    """

    images: Tensor
    texts: Tensor
    positive: Tensor
    scale: Tensor
    bias: Tensor
    counted: Tensor | None = None

    @property
    def negatives(self) -> tuple[Tensor, Tensor]:
        """Which captions are negatives of each image, and which images of each caption, [B, B] both."""
        there, back = torch.logical_not(self.positive), torch.logical_not(self.positive.T)
        return (there, back) if self.counted is None else (there & self.counted, back & self.counted)

    @property
    def logits(self) -> Tensor:
        """Cosines [B, B] of images before captions, scaled."""
        return self.scale * self.images @ self.texts.T

    def both_ways(self, loss: PairLoss) -> Tensor:
        """The mean of ``loss`` with images as anchors and with captions as anchors."""
        of_images, of_texts = self.negatives
        there = Pairs(self.images, self.texts, positive=self.positive, negative=of_images)
        back = Pairs(self.texts, self.images, positive=self.positive.T, negative=of_texts)
        return (loss(there) + loss(back)) / 2


MatchedLoss = Callable[[Matched], Tensor]


def clip_loss(matched: Matched) -> Tensor:
    """Cross-entropy of finding each image's caption and each caption's image, the mean of both directions.

    Radford 2021, arXiv 2103.00020, figure 3. Only the caption that was shown for an image is its target; its other
    positives stand in no denominator. In a batch without such, this is open_clip's ClipLoss.
    """
    own = torch.eye(len(matched.images), dtype=torch.bool, device=matched.images.device)
    target = torch.arange(len(own), device=own.device)
    ways = zip((matched.logits, matched.logits.T), matched.negatives, strict=True)
    there, back = (F.cross_entropy(logits.masked_fill(~(own | other), -torch.inf), target) for logits, other in ways)
    return (there + back) / 2


def infonce_loss(matched: Matched) -> Tensor:
    """InfoNCE (van den Oord 2018, arXiv 1807.03748, eq. 4) in both directions, with every positive in turn."""
    return matched.both_ways(infonce(temperature=1 / matched.scale))


def triplet_loss(*, margin: float, mining: Mining) -> MatchedLoss:
    """Triplet loss in both directions (VSE++: Faghri 2018, arXiv 1707.05612, eq. 6, for the hardest negatives).

    Distances and triplets are those of ``Mining``, of unit vectors; VSE++ takes cosines instead.
    """
    one_way = triplet(margin=margin, mining=mining)
    return lambda matched: matched.both_ways(one_way)


def sigmoid_loss(matched: Matched) -> Tensor:
    """Binary cross-entropy of every pair of the batch, summed, over B (SigLIP: Zhai 2023, arXiv 2303.15343, eq. 1).

    Negatives are those of the image or of the caption.
    """
    of_images, of_texts = matched.negatives
    sign = 2.0 * matched.positive.to(matched.images.dtype) - 1
    losses = -F.logsigmoid(sign * (matched.logits + matched.bias))
    return losses.masked_fill(~(matched.positive | of_images | of_texts.T), 0.0).sum() / len(matched.images)


def on_captions(loss: MatchedLoss, *, negatives: Negatives = Negatives.ALL, num_negatives: int = 0) -> Loss:
    """``loss`` on the outputs of a model that reads captions, against ``num_negatives`` of an anchor unless all."""

    def compare(output: Output, batch: Batch) -> Tensor:
        del batch
        matching = output.matching
        assert matching is not None, "the model reads no captions"
        images = at_least_float32(output.encoded.projected)
        with without_autocast(images):
            images, texts = F.normalize(images, dim=1), F.normalize(matching.texts.to(images.dtype), dim=1)
            counted = chosen_negatives(negatives, num_negatives, images=images, texts=texts, positive=matching.positive)
            return loss(Matched(images, texts, matching.positive, matching.scale, matching.bias, counted))

    return compare
