"""Which side of which hand a picture shows, where nobody says it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handclip_core.types import ASPECT_INDEX, HAND_ASPECTS, Aspect

RIDGE = 1e-2


class Router(nn.Module):
    """A linear aspect classifier on vectors [B, F]; its logits [B, 5] have the columns of ASPECT_INDEX.

    ``aspects`` are those that it may answer with.
    """

    allowed: Tensor

    def __init__(self, width: int, aspects: Sequence[Aspect]) -> None:
        super().__init__()
        self.linear = nn.Linear(width, len(ASPECT_INDEX))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        allowed = torch.zeros(len(ASPECT_INDEX), dtype=torch.bool)
        allowed[[ASPECT_INDEX[aspect] for aspect in aspects]] = True
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [B, 5]."""
        logits: Tensor = self.linear(vectors)
        return logits.masked_fill(~self.allowed, torch.finfo(logits.dtype).min)

    def route(self, aspects: Tensor, logits: Tensor) -> Tensor:
        """The aspect [B] by whose branch each picture goes: its own, or the classifier's where that is unknown."""
        return torch.where(self.allowed[aspects], aspects, logits.argmax(dim=1))

    @torch.no_grad()
    def fit(self, vectors: NDArray[np.float32], aspects: NDArray[np.int64]) -> None:
        """Weights by ridge regression of the aspects [n] on unit vectors of ``vectors`` [n, F]: no training needed."""
        unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
        design = np.concatenate([unit, np.ones((len(unit), 1))], axis=1)
        wanted = np.eye(len(ASPECT_INDEX))[aspects]
        gram = design.T @ design + RIDGE * np.eye(design.shape[1])
        solution = torch.from_numpy(np.linalg.solve(gram, design.T @ wanted)).float()
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])


def branch_aspects(aspects: Sequence[Aspect]) -> tuple[Aspect, ...]:
    """Those of ``aspects`` that get a branch of their own, in the published order."""
    return tuple(aspect for aspect in HAND_ASPECTS if aspect in aspects)


def branch_name(aspect: Aspect) -> str:
    """The name of an aspect's modules."""
    return aspect.value.replace(" ", "_")
