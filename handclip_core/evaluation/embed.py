"""From a model to embeddings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.models.hand_model import HandModel
from handclip_core.process_group import process_group
from handclip_core.types import ASPECT_INDEX, Aspect, ModelInputs, PerTower

CPU_BATCH, GPU_BATCH = 64, 256
"""Images embedded at a time: activations of more do not stay in a processor's cache."""

Rows = NDArray[np.int64]
Seen = tuple[int, bool, int, int]
"""Inputs, whether mirrored, a manifest row, and the aspect that a model is told."""

_known: dict[int, dict[Seen, Tensor]] = {}


@contextmanager
def each_image_once(model: HandModel) -> Iterator[None]:
    """Within the block, in which its weights must stay, ``model`` embeds an image once, however many ask."""
    _known[id(model)] = {}
    try:
        yield
    finally:
        del _known[id(model)]


def embed(
    model: HandModel,
    inputs: Inputs,
    rows: Rows,
    *,
    aspects: Rows,
    device: torch.device,
    mirror: bool = False,
    unit: bool = True,
) -> Tensor:
    """Float32 embeddings [n, W] of manifest ``rows`` [n], on the CPU; ``model`` ends in evaluation mode.

    ``aspects`` [N] are those of all manifest rows. Embeddings are L2-normalised if ``unit``; with ``mirror``, images
    are mirrored first (cached activations cannot be). Several processes share the work, and all get the result.
    """
    chunks = _Chunks(inputs, rows, aspects, device, mirror=mirror)
    known = _known.get(id(model))
    whole = _embedded(model, chunks) if known is None else _embedded_once(model, chunks, known)
    return F.normalize(whole, dim=1) if unit else whole


def unmapped(model: HandModel, inputs: Inputs, rows: Rows, *, aspects: Rows, device: torch.device) -> Tensor:
    """What the model's metric maps [n, V], as ``embed`` gives embeddings; a metric is fitted to it."""
    return _collected(model, model.vectors, sum(model.metric.widths), _Chunks(inputs, rows, aspects, device))


def classified(
    model: HandModel, inputs: Inputs, rows: Rows, *, aspects: Rows, device: torch.device, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The head's logits [n, P] of manifest ``rows`` [n] for P classes, and their projected embeddings [n, D]."""
    width, classify = model.architecture.dim, model.classifier()

    def both(images: ModelInputs, shown: Tensor) -> Tensor:
        logits, projected = classify(images, shown)
        return torch.cat([logits.float(), projected.float()], dim=1)

    found = _collected(model, both, num_classes + width, _Chunks(inputs, rows, aspects, device))
    return found[:, :num_classes], found[:, num_classes:]


@dataclass(frozen=True)
class _Chunks:
    """Inputs and aspects of manifest ``rows``, a part at a time."""

    inputs: Inputs
    rows: Rows
    aspects: Rows
    device: torch.device
    mirror: bool = False

    def of(self, part: slice) -> tuple[ModelInputs, Tensor]:
        rows = self.rows[part]
        images = _mirrored(self.inputs.of(rows, device=self.device), self.mirror)
        return images, torch.from_numpy(self.aspects[rows]).to(self.device)


def _embedded(model: HandModel, chunks: _Chunks) -> Tensor:
    return _collected(model, model.embed, model.metric.width, chunks)


def _embedded_once(model: HandModel, chunks: _Chunks, known: dict[Seen, Tensor]) -> Tensor:
    rows = chunks.rows
    told = chunks.aspects[rows] if model.tells_aspects else np.zeros(len(rows), np.int64)
    asked = [(id(chunks.inputs), chunks.mirror, *one) for one in zip(rows.tolist(), told.tolist(), strict=True)]
    new = [place for place, one in enumerate(asked) if one not in known]
    if new:
        found = _embedded(model, replace(chunks, rows=rows[new]))
        known.update((asked[place], vector) for place, vector in zip(new, found, strict=True))
    whole = torch.zeros(len(asked), model.metric.width)
    for place, one in enumerate(asked):
        whole[place] = known[one]
    return whole


@torch.no_grad()
def _collected(
    model: HandModel, function: Callable[[ModelInputs, Tensor], Tensor], width: int, chunks: _Chunks
) -> Tensor:
    model.eval()
    together = process_group()
    found = torch.zeros(len(chunks.rows), width, device=chunks.device)
    mine = together.part(len(chunks.rows))
    size = _batch(chunks.device)
    for start in range(mine.start, mine.stop, size):
        part = slice(start, min(start + size, mine.stop))
        found[part] = function(*chunks.of(part)).float()
    return together.sum(found).cpu()


@torch.no_grad()
def aspect_accuracy(
    model: HandModel, inputs: Inputs, rows: Rows, *, aspects: Rows, device: torch.device
) -> float | None:
    """How often ``model`` tells the aspect of manifest ``rows`` [n]; None if it does not tell, or none is known.

    ``aspects`` [N] are those of all manifest rows; rows of unknown aspect are left out.
    """
    model.eval()
    known = rows[aspects[rows] != ASPECT_INDEX[Aspect.UNKNOWN]]
    right, size = 0, _batch(device)
    for start in range(0, len(known), size):
        chunk = known[start : start + size]
        predicted = model.predict_aspects(inputs.of(chunk, device=device))
        if predicted is None:
            return None
        right += int((predicted.cpu().numpy() == aspects[chunk]).sum())
    return right / len(known) if len(known) else None


def _batch(device: torch.device) -> int:
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def _mirrored(inputs: ModelInputs, mirror: bool) -> ModelInputs:
    if not mirror:
        return inputs
    if isinstance(inputs, PerTower):
        return inputs.mirrored()
    assert isinstance(inputs, Tensor), "activations of mirrored images are not cached"
    return inputs.flip(-1)
