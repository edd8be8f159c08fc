"""Losses between images and the texts of their classes (CLIP-ReID: Li 2023, arXiv 2211.13977).

Images are ``encoded.projected`` [B, D], texts those of ``Output.texts`` [T, D]. Both are made unit vectors, as CLIP
compares them; CLIP-ReID leaves them as long as they are, which ties the temperature to one tower's norms.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.losses.metric import supcon
from handclip_core.losses.numerics import at_least_float32, without_autocast
from handclip_core.losses.pairs import Pairs
from handclip_core.losses.term import Loss
from handclip_core.types import Batch, Output

CLIP_TEMPERATURE = 0.01
"""CLIP's own, after training."""


def image_text_cross_entropy(*, temperature: float = CLIP_TEMPERATURE, smoothing: float = 0.0) -> Loss:
    """Cross-entropy of each image's cosines with all texts over ``temperature``, mean over the images.

    CLIP-ReID's second stage. The target is the text of the image's class, all of them in equal parts if it has
    several. Images without a text take no part.
    """

    def loss(output: Output, batch: Batch) -> Tensor:
        pairs = _images_before_texts(output, batch)
        described = pairs.positive.any(dim=1)
        if not described.any():
            return pairs.zero()
        with without_autocast(pairs.anchors):
            cosines = F.normalize(pairs.anchors[described], dim=1) @ F.normalize(pairs.references, dim=1).T
        target = pairs.positive[described].to(cosines.dtype)
        target = target / target.sum(dim=1, keepdim=True)
        return F.cross_entropy(cosines / temperature, target, label_smoothing=smoothing)

    return loss


def image_text_supcon(*, temperature: float = CLIP_TEMPERATURE) -> Loss:
    """The supervised contrastive loss from images to texts plus that from texts to images: CLIP-ReID's first stage.

    Images without a text, and texts without an image, take no part.
    """
    one_way = supcon(temperature=temperature)

    def loss(output: Output, batch: Batch) -> Tensor:
        pairs = _images_before_texts(output, batch)
        back = Pairs(pairs.references, pairs.anchors, positive=pairs.positive.T, negative=pairs.negative.T)
        with without_autocast(pairs.anchors):
            return one_way(pairs) + one_way(back)

    return loss


def _images_before_texts(output: Output, batch: Batch) -> Pairs:
    """Images as anchors, texts as references."""
    assert output.texts is not None, "the model has no texts"
    same = batch.labels[:, None] == output.texts.labels[None, :]
    images = at_least_float32(output.encoded.projected)
    texts = output.texts.embedding.to(images.dtype)
    return Pairs(images, texts, positive=same, negative=torch.logical_not(same))
