"""Residual networks of timm: stem, the blocks of four layers, and pooling behind the last of them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from handclip_core.models.towers.tower import Branches, Stage
from handclip_core.types import Encoded, FeatureMap

_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_STEM = ("conv1", "bn1", "act1", "maxpool")


class TimmResNet:
    """A ResNet of timm without its classifier. Nothing follows the pooling, so the last block has no map of its own."""

    channels_last = True

    def prefixes(self, visual: Any) -> list[tuple[str, ...]]:
        """Parameter prefixes of each block, input first; each parameter lies under one of them."""
        blocks = [(f"trunk.{name}.{i}",) for name in _LAYERS for i in range(len(getattr(visual.trunk, name)))]
        return [tuple(f"trunk.{name}" for name in _STEM[:2]), *blocks]

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""
        stem = nn.Sequential(*(getattr(visual.trunk, name) for name in _STEM))
        return [stem, *_blocks(visual)[:-1]]

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block and the pooling: features [B, F] and embeddings [B, D] are the same."""
        pooled = visual.trunk.forward_head(_blocks(visual)[-1](hidden))
        return Encoded(features=pooled, projected=pooled)

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map: all but the last."""
        return len(_blocks(visual))

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The map [B, C, H, W] itself."""
        del visual
        return FeatureMap(hidden)

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""
        return int(visual.trunk.num_features)

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""
        return int(visual.trunk.num_features)

    def branches(self, visual: Any) -> list[Branches]:
        """None."""
        del visual
        return []

    def stages(self, visual: Any) -> list[Stage]:
        """The four layers."""
        found = [info["num_chs"] for info in visual.trunk.feature_info[1:]]
        return [Stage(getattr(visual.trunk, name), chs) for name, chs in zip(_LAYERS, found, strict=True)]


def is_resnet(visual: Any) -> bool:
    """Whether an image tower of timm is built of these parts."""
    return all(hasattr(visual.trunk, name) for name in (*_STEM, *_LAYERS))


def _blocks(visual: Any) -> list[Any]:
    return [block for name in _LAYERS for block in getattr(visual.trunk, name)]
