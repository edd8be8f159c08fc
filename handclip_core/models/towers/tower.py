"""What every kind of image tower tells of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from handclip_core.types import Encoded, FeatureMap


@dataclass(frozen=True)
class Branches:
    """A transformer's ``block`` and its modules that the outputs of ``attention`` and ``mlp`` pass last [..., C]."""

    block: nn.Module
    attention: str
    mlp: str
    channels: int


@dataclass(frozen=True)
class Stage:
    """A stage of a convolutional tower: what runs in ``row``, and the ``channels`` of the map that it leaves."""

    row: nn.Sequential
    channels: int


class Tower(Protocol):
    """The blocks of a kind of tower, and what else freezing, decay, updates, adapters, readouts and caches ask for.

    A tower adapts by its ``branches`` if it has any, else by its ``stages``.
    """

    @property
    def channels_last(self) -> bool:
        """Whether it runs faster with the channels last in memory."""

    def prefixes(self, visual: Any) -> list[tuple[str, ...]]:
        """Parameter prefixes of each block, input first; each parameter lies under one of them."""

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block: from the activations before it to features [B, F] and embeddings [B, D]."""

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map."""

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The map, and the class token if there is one, of the output of such a block."""

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""

    def branches(self, visual: Any) -> list[Branches]:
        """The residual blocks of a transformer, input first."""

    def stages(self, visual: Any) -> list[Stage]:
        """The stages of a convolutional tower, input first."""
