"""Losses within aspects: images of different aspects are not compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from handclip_core.losses.term import Loss, Term
from handclip_core.types import ASPECT_INDEX, Aspect, Batch, Output


class WithinAspects(nn.Module):
    """The mean over a batch's images of the loss of each aspect's images by themselves.

    Each aspect has a loss of its own, with its own memory or centres. A module, for a loss may have buffers.
    """

    def __init__(self, losses: dict[Aspect, Loss]) -> None:
        super().__init__()
        self._losses = losses
        self._memories = nn.ModuleList(loss for loss in losses.values() if isinstance(loss, nn.Module))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        """A scalar; images of other aspects take no part."""
        found, shown = [], 0
        for aspect, loss in self._losses.items():
            at = (batch.aspects == ASPECT_INDEX[aspect]).nonzero(as_tuple=True)[0]
            if len(at):
                found.append(len(at) * loss(_some(output, at), _those(batch, at)))
                shown += len(at)
        return torch.stack(found).sum() / shown if found else (output.embedding * 0).sum()


def within_aspects(aspects: Sequence[Aspect], terms: Callable[[], tuple[Term, ...]]) -> tuple[Term, ...]:
    """The ``terms`` with a loss of its own for each of ``aspects``; what they do to single images stays the same."""
    by_aspect = {aspect: terms() for aspect in aspects}
    first = next(iter(by_aspect.values()))
    return tuple(
        Term(term.name, WithinAspects({aspect: each[index].loss for aspect, each in by_aspect.items()}), term.weight)
        for index, term in enumerate(first)
    )


def _some(output: Output, at: Tensor) -> Output:
    encoded = replace(output.encoded, features=output.encoded.features[at], projected=output.encoded.projected[at])
    return replace(output, encoded=encoded, embedding=output.embedding[at], logits=output.logits[at])


def _those(batch: Batch, at: Tensor) -> Batch:
    """Labels, rows and aspects of some images; no loss reads ``inputs``, which stay whole."""
    return replace(batch, labels=batch.labels[at], rows=batch.rows[at.to(batch.rows.device)], aspects=batch.aspects[at])
