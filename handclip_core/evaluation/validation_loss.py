"""The loss of a validation split, logged beside training losses: how little of the belief the right answers get."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
VALIDATION_LOSS = "val_loss"
TEMPERATURE = 0.07
"""Among images, where no training of CLIP's has set one (Wu 2018, arXiv 1805.01978)."""
BLOCK = 1 << 22
"""Similarities that are held at once."""


def search_loss(
    queries: Tensor, gallery: Tensor, right: Callable[[slice], NDArray[np.bool_]], *, temperature: float, same: bool
) -> float:
    """Mean of -log(share of the softmax over the gallery that falls on right answers) over queries that have any.

    ``queries`` [Q, D] and ``gallery`` [G, D] are of length one, cosines are divided by ``temperature``;
    ``right(part)`` [q, G] says what is right for those queries. If they are the ``same`` images, none finds itself.
    The loss of neighbourhood components analysis (Goldberger 2004); NaN if no query has a right answer.
    """
    total, num = 0.0, 0
    step = max(1, BLOCK // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        logits = (queries[part] @ gallery.T).double() / temperature
        if same:
            logits[torch.arange(part.stop - start), torch.arange(start, part.stop)] = -torch.inf
        wanted = torch.from_numpy(right(part)) & ~torch.isneginf(logits)
        found = logits.masked_fill(~wanted, -torch.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
        known = found[wanted.any(dim=1)]
        total, num = total - float(known.sum()), num + len(known)
    return total / num if num else float("nan")


def loss_among(images: Tensor, labels: Rows) -> float:
    """``search_loss`` of each of ``images`` [n, D], of length one, among the others, where ``labels`` [n] agree."""
    return search_loss(
        images, images, lambda part: labels[part, None] == labels[None, :], temperature=TEMPERATURE, same=True
    )


def loss_between(images: Tensor, texts: Tensor, pairs: tuple[Rows, Rows], *, temperature: float) -> float:
    """Mean of ``search_loss`` of ``images`` [I, D] among ``texts`` [T, D] and the other way round, both of length one.

    ``pairs`` are places of images and of texts [P] that belong together.
    """
    image, text = pairs

    def among(queries: Rows, answers: Rows, num: int) -> Callable[[slice], NDArray[np.bool_]]:
        order = np.argsort(queries, kind="stable")

        def right(part: slice) -> NDArray[np.bool_]:
            ends = np.searchsorted(queries[order], [part.start, part.stop])
            chosen, wanted = order[ends[0] : ends[1]], np.zeros((part.stop - part.start, num), np.bool_)
            wanted[queries[chosen] - part.start, answers[chosen]] = True
            return wanted

        return right

    each = (
        search_loss(images, texts, among(image, text, len(texts)), temperature=temperature, same=False),
        search_loss(texts, images, among(text, image, len(images)), temperature=temperature, same=False),
    )
    return sum(each) / 2
