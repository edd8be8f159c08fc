"""From a model to embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.models.hand_model import HandModel
from handclip_core.types import Encoded

BATCH = 128


@torch.no_grad()
def embed(
    model: HandModel,
    inputs: Inputs,
    rows: NDArray[np.int64],
    *,
    device: torch.device,
    mirror: bool = False,
    unit: bool = True,
) -> Tensor:
    """Float32 embeddings [n, W] of manifest ``rows`` [n], on the CPU; ``model`` ends in evaluation mode.

    They are L2-normalised if ``unit``; with ``mirror``, pictures are mirrored first (cached activations cannot be).
    """
    model.eval()
    chunks = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    parts = [model.embed(_mirrored(inputs.of(chunk, device=device), mirror)).float().cpu() for chunk in chunks]
    embeddings = torch.cat(parts)
    return F.normalize(embeddings, dim=1) if unit else embeddings


def _mirrored(inputs: Tensor | Encoded, mirror: bool) -> Tensor | Encoded:
    if not mirror:
        return inputs
    assert isinstance(inputs, Tensor), "activations of mirrored pictures are not cached"
    return inputs.flip(-1)
