"""The choice of a sampler, as settings."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from handclip_core.config import Config
from handclip_core.data.samplers import PK, Balanced, Confusable, CrossAspect, Sampler, Shuffled


class SamplerKind(StrEnum):
    """How images come together in a batch."""

    SHUFFLED = "shuffled"
    PK = "pk"
    CROSS_ASPECT = "cross_aspect"
    CONFUSABLE = "confusable"
    BALANCED = "balanced"


class SamplerSettings(Config):
    """Which images make up a batch."""

    kind: SamplerKind = SamplerKind.SHUFFLED
    """``shuffled``, all images once an epoch; ``pk``, P classes with K images each; ``cross_aspect``, the same with
    images of as many aspects as a class has; ``confusable``, a class and the P - 1 whose images the pretrained tower
    sees as most like its own; ``balanced``, every aspect and within it every class equally often."""
    images_each: int = Field(4, ge=2, le=64)
    """K, the images of each class in a batch of ``pk``, ``cross_aspect`` and ``confusable``."""

    @property
    def has_pairs(self) -> bool:
        """Whether every class of a batch comes with several images."""
        return self.kind in (SamplerKind.PK, SamplerKind.CROSS_ASPECT, SamplerKind.CONFUSABLE)

    def build(self, batch_size: int, *, likeness: Callable[[], NDArray[np.float32]]) -> Sampler:
        """A sampler of ``batch_size`` images, or as near as whole classes come from below; there is at least one.

        ``likeness`` gives how much alike classes are [C, C], and is called only if that is asked for.
        """
        if self.kind is SamplerKind.SHUFFLED:
            return Shuffled(batch_size)
        if self.kind is SamplerKind.BALANCED:
            return Balanced(batch_size)
        num_classes = max(1, batch_size // self.images_each)
        if self.kind is SamplerKind.CONFUSABLE:
            return Confusable(num_classes, self.images_each, likeness())
        across = CrossAspect if self.kind is SamplerKind.CROSS_ASPECT else PK
        return across(num_classes, self.images_each)
