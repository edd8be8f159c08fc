"""Losses between pictures and the texts of their classes (CLIP-ReID: Li 2023, arXiv 2211.13977).

Pictures are ``encoded.projected`` [B, D], texts those of ``Output.texts`` [T, D]. Both are made unit vectors, as CLIP
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
    """Cross-entropy of each picture's cosines with all texts over ``temperature``, mean over the pictures.

    CLIP-ReID's second stage. The target is the text of the picture's class, all of them in equal parts where it has
    several. Pictures without a text take no part.
    """

    def loss(output: Output, batch: Batch) -> Tensor:
        pairs = _pictures_before_texts(output, batch)
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
    """The supervised contrastive loss from pictures to texts plus that from texts to pictures: CLIP-ReID's first stage.

    Pictures without a text, and texts without a picture, take no part.
    """
    one_way = supcon(temperature=temperature)

    def loss(output: Output, batch: Batch) -> Tensor:
        pairs = _pictures_before_texts(output, batch)
        back = Pairs(pairs.references, pairs.anchors, positive=pairs.positive.T, negative=pairs.negative.T)
        with without_autocast(pairs.anchors):
            return one_way(pairs) + one_way(back)

    return loss


def _pictures_before_texts(output: Output, batch: Batch) -> Pairs:
    """Pictures as anchors, texts as references."""
    assert output.texts is not None, "the model has no texts"
    same = batch.labels[:, None] == output.texts.labels[None, :]
    pictures = at_least_float32(output.encoded.projected)
    texts = output.texts.embedding.to(pictures.dtype)
    return Pairs(pictures, texts, positive=same, negative=torch.logical_not(same))
