"""What is read inside the image tower: the output of any of its blocks, pooled to a vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.types import FeatureMap

LEAST = 1e-6
"""What GeM raises to its power is no smaller."""


class Pooling(StrEnum):
    """How a map [C, H, W] of features, or a row of patch tokens, becomes a vector."""

    MEAN = "mean"
    GEM = "gem"
    ATTENTION = "attention"
    TOKEN = "token"
    GRID = "grid"
    PYRAMID = "pyramid"


class ReadoutSettings(Config):
    """Which blocks of the image tower are read, and how they are pooled."""

    depths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.3,), min_length=1, max_length=8)
    """Where, as shares of the depth of the blocks that have a map: 1 is the last of them. ``show`` names the blocks.
    Several are put side by side."""
    pool: Pooling = Pooling.GRID
    """``mean`` over the map; ``gem``, its generalised mean (Radenovic 2019, arXiv 1711.02512, eq. 3); ``attention``,
    the mean weighted by the softmax of each place's product with the class token, or with the mean of a tower that has
    none; ``token``, the class token; ``grid``, the means of ``grid`` x ``grid`` parts, which keeps the layout;
    ``pyramid``, grids of 1, 2, 4 and so on parts a side, and of ``grid``, each a vector of its own (spatial pyramid:
    Lazebnik 2006, doi 10.1109/CVPR.2006.68)."""
    grid: int = Field(2, ge=1, le=16)
    """Parts a side of ``grid``, or the most of ``pyramid``; a map that is smaller is taken as it is."""
    power: float = Field(3.0, ge=1, le=20)
    """Exponent of ``gem``; 1 gives the mean of what is positive."""


@dataclass(frozen=True)
class Readout:
    """A readout of one architecture: after how many ``blocks`` of it, ascending, and the vectors: names and widths."""

    settings: ReadoutSettings
    blocks: tuple[int, ...]
    names: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """The width R of all vectors side by side."""
        return sum(self.widths)

    @property
    def key(self) -> str:
        """What names it in a cache."""
        pool = self.settings.model_dump_json(include={"pool", "grid", "power"})
        return f"{self.blocks} {pool}"

    def pooled(self, found: FeatureMap) -> Tensor:
        """The vectors of a block's output, side by side."""
        return torch.cat(list(pooled(found, self.settings).values()), dim=1)


def pooled(found: FeatureMap, settings: ReadoutSettings) -> dict[str, Tensor]:
    """The vectors [B, C g g] of grids of g x g parts, by their name, or the one [B, C] of another kind of pooling.

    Raises InputError for a class token that is not there.
    """
    if settings.pool is Pooling.GRID:
        return _grids(found.values, (settings.grid,))
    if settings.pool is Pooling.PYRAMID:
        doubled = [2**level for level in range(settings.grid.bit_length())]
        return _grids(found.values, [*doubled, settings.grid])
    return {settings.pool.value: _over_the_map(found, settings)}


def _grids(values: Tensor, sides: Sequence[int]) -> dict[str, Tensor]:
    height, width = values.shape[2:]
    sizes = {(min(side, height), min(side, width)) for side in sides}
    return {f"{down} x {across}": _means(values, down, across) for down, across in sorted(sizes)}


def _means(values: Tensor, down: int, across: int) -> Tensor:
    """Means of ``down`` x ``across`` parts, which share rows or columns where these do not come out even, as a vector.

    They are those of ``adaptive_avg_pool2d``, which an ONNX graph has for even parts alone.
    """
    rows, columns = (_parts(num, size).to(values) for num, size in ((down, values.shape[2]), (across, values.shape[3])))
    return (rows @ values @ columns.T).flatten(1)


def _parts(num: int, size: int) -> Tensor:
    """What makes means of ``num`` parts [num, size] of so many numbers in a row."""
    ends = torch.tensor([[place * size // num, -(-(place + 1) * size // num)] for place in range(num)])
    inside = (torch.arange(size) >= ends[:, :1]) & (torch.arange(size) < ends[:, 1:])
    return inside / inside.sum(dim=1, keepdim=True)


def _over_the_map(found: FeatureMap, settings: ReadoutSettings) -> Tensor:
    values, token = found.values, found.token
    if settings.pool is Pooling.MEAN:
        return values.mean(dim=(2, 3))
    if settings.pool is Pooling.GEM:
        positive = values.clamp(min=LEAST)
        # Relative to the largest, no power is too small for its root to have a gradient.
        largest = positive.amax(dim=(2, 3), keepdim=True).detach()
        return (positive / largest).pow(settings.power).mean(dim=(2, 3)).pow(1 / settings.power) * largest[..., 0, 0]
    if settings.pool is Pooling.ATTENTION:
        places = values.flatten(2)
        asked = places.mean(dim=2) if token is None else token
        weights = (torch.einsum("bc,bcn->bn", asked, places) / places.shape[1] ** 0.5).softmax(dim=1)
        return torch.einsum("bn,bcn->bc", weights, places)
    if token is None:
        raise InputError("neck.readout.pool: this image tower has no class token; choose attention, mean or grid")
    return token
