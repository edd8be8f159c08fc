"""How much of what CLIP knows beside the task a fine-tuned model still knows, by prompts that no task is about."""

import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.evaluation.metrics import Metric

THINGS = (
    "a dog", "a cat", "a bird", "a horse", "a fish", "an insect", "a flower", "a tree", "a forest", "a mountain",
    "a beach", "a river", "the sky", "snow", "a desert", "a street", "a house", "a tall building", "a bridge",
    "a kitchen", "a bedroom", "an office", "a shop", "a stadium", "a car", "a bus", "a train", "a bicycle", "a boat",
    "an aeroplane", "a chair", "a table", "a lamp", "a clock", "a book", "a bottle", "a cup", "a telephone",
    "a computer", "a shoe", "bread", "fruit", "vegetables", "a cake", "a crowd", "a child", "an old man",
    "a smiling woman", "a sign with text on it", "something red", "something green", "something blue",
)  # fmt: skip
PROMPTS = (
    *(f"a photo of {thing}." for thing in THINGS),
    "a drawing.", "a painting.", "a black and white photo.", "a map.", "a diagram.", "a photo taken at night.",
    "a blurry photo.", "a pattern.",
)  # fmt: skip
"""No class or caption of ours, and of every kind that CLIP was pretrained on."""
GENERIC = Metric("generic_retention", "retention of generic prompts", over_seeds=False)
"""The mean of ``agreement`` over the images of a split."""


def agreement(before: Tensor, after: Tensor) -> Tensor:
    """Spearman's rank correlation [n] of an image's similarities ``before`` and ``after``, [n, T] each.

    1 if an image ranks the prompts as it did, about 0 if nothing of that is left. What moves all similarities of an
    image alike, which can change no answer, is not counted.
    """
    ranks = [F.normalize(_ranks(one) - (one.shape[1] - 1) / 2, dim=1) for one in (before, after)]
    return (ranks[0] * ranks[1]).sum(dim=1)


def similarities(images: Tensor, texts: Tensor) -> Tensor:
    """Cosines [n, T] of images [n, D] and texts [T, D] of any length."""
    return F.normalize(images.double(), dim=1) @ F.normalize(texts.double(), dim=1).T


def _ranks(values: Tensor) -> Tensor:
    return values.argsort(dim=1, stable=True).argsort(dim=1).to(torch.float64)
