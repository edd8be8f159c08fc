"""From a model to embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.models.hand_model import HandModel
from handclip_core.process_group import process_group
from handclip_core.types import ASPECT_INDEX, Aspect, ModelInputs

BATCH = 128

Rows = NDArray[np.int64]


@torch.no_grad()
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
    model.eval()
    together = process_group()
    embeddings = torch.zeros(len(rows), model.width, device=device)
    mine = together.part(len(rows))
    for start in range(mine.start, mine.stop, BATCH):
        chunk = rows[start : min(start + BATCH, mine.stop)]
        images = _mirrored(inputs.of(chunk, device=device), mirror)
        found = model.embed(images, torch.from_numpy(aspects[chunk]).to(device))
        embeddings[start : start + len(chunk)] = found.float()
    whole = together.sum(embeddings).cpu()
    return F.normalize(whole, dim=1) if unit else whole


@torch.no_grad()
def aspect_accuracy(
    model: HandModel, inputs: Inputs, rows: Rows, *, aspects: Rows, device: torch.device
) -> float | None:
    """How often ``model`` tells the aspect of manifest ``rows`` [n]; None if it does not tell, or none is known.

    ``aspects`` [N] are those of all manifest rows; rows of unknown aspect are left out.
    """
    model.eval()
    known = rows[aspects[rows] != ASPECT_INDEX[Aspect.UNKNOWN]]
    right = 0
    for start in range(0, len(known), BATCH):
        chunk = known[start : start + BATCH]
        predicted = model.predict_aspects(inputs.of(chunk, device=device))
        if predicted is None:
            return None
        right += int((predicted.cpu().numpy() == aspects[chunk]).sum())
    return right / len(known) if len(known) else None


def _mirrored(inputs: ModelInputs, mirror: bool) -> ModelInputs:
    if not mirror:
        return inputs
    assert isinstance(inputs, Tensor), "activations of mirrored images are not cached"
    return inputs.flip(-1)
