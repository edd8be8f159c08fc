"""From a model to embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.inputs import Inputs
from handclip_core.models.hand_model import HandModel

BATCH = 128


@torch.no_grad()
def embed(model: HandModel, inputs: Inputs, rows: NDArray[np.int64], *, device: torch.device) -> Tensor:
    """L2-normalised float32 embeddings [n, W] of manifest ``rows`` [n], on the CPU; ``model`` ends in eval mode."""
    model.eval()
    chunks = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    parts = [model.embed(inputs.of(chunk, device=device)).float().cpu() for chunk in chunks]
    return F.normalize(torch.cat(parts), dim=1)
