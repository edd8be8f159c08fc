"""A classifier of the aspect (side and hand) that an image shows, for images of unknown aspect."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.types import ASPECT_INDEX, HAND_ASPECTS, Aspect

RIDGE = 1e-2
"""Penalty on the squared coefficients, relative to the number of images; what they multiply has variance one."""


class Router(nn.Module):
    """A linear aspect classifier on standardised vectors [B, F]; its logits [B, 5] have the columns of ASPECT_INDEX.

    ``aspects`` are those that it may answer with.
    """

    allowed: Tensor

    def __init__(self, width: int, aspects: Sequence[Aspect]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.linear = nn.Linear(width, len(ASPECT_INDEX))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        allowed = torch.zeros(len(ASPECT_INDEX), dtype=torch.bool)
        allowed[[ASPECT_INDEX[aspect] for aspect in aspects]] = True
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [B, 5]."""
        logits: Tensor = self.linear(self.norm(vectors))
        return logits.masked_fill(~self.allowed, torch.finfo(logits.dtype).min)

    def route(self, aspects: Tensor, logits: Tensor) -> Tensor:
        """The aspect [B] by whose branch each image goes: its own, or the classifier's if that is unknown."""
        return torch.where(self.allowed[aspects], aspects, logits.argmax(dim=1))

    @torch.no_grad()
    def fit(self, vectors: NDArray[np.float32], aspects: NDArray[np.int64]) -> None:
        """Weights by ridge regression of the aspects [n] on the directions of ``vectors`` [n, F], without training."""
        design = directions(torch.from_numpy(vectors).double())
        wanted = F.one_hot(torch.from_numpy(aspects), len(ASPECT_INDEX)).double()
        mean, variance = design.mean(dim=0), design.var(dim=0, unbiased=False)
        design = (design - mean) / (variance + self.norm.eps).sqrt()
        gram = design.T @ design + RIDGE * len(design) * torch.eye(design.shape[1], dtype=design.dtype)
        solution = torch.linalg.solve(gram, design.T @ (wanted - wanted.mean(dim=0)))
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_(variance)
        self.linear.weight.copy_(solution.T)
        self.linear.bias.copy_(wanted.mean(dim=0))


def directions(vectors: Tensor) -> Tensor:
    """``vectors`` [n, F] of the length that gives their components a mean square of one."""
    unit: Tensor = F.normalize(vectors, dim=1)
    return math.sqrt(vectors.shape[1]) * unit


def view_aspects(aspects: Sequence[Aspect]) -> tuple[Aspect, ...]:
    """Those of ``aspects`` that get a branch of their own, in the published order."""
    return tuple(aspect for aspect in HAND_ASPECTS if aspect in aspects)


def view_name(aspect: Aspect) -> str:
    """The name of an aspect's modules."""
    return aspect.value.replace(" ", "_")
