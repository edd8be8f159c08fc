"""open_clip's own image towers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from handclip_core.models.towers.tower import Branches, Stage
from handclip_core.types import Encoded, FeatureMap


class TransformerTower:
    """How a VisionTransformer falls into blocks: stem, residual blocks, final norm and pooling, projection."""

    channels_last = False

    def prefixes(self, visual: Any) -> list[tuple[str, ...]]:
        """Parameter prefixes of each block, input first; each parameter lies under one of them."""
        stem = ("conv1", "class_embedding", "positional_embedding", "ln_pre")
        residual = [(f"transformer.resblocks.{i}",) for i in range(len(visual.transformer.resblocks))]
        pool = ("attn_pool", "attn_pool_contrastive", "ln_post")
        # Some towers lack the first norm, or learn no positions.
        owners = {name.split(".")[0] for name, _ in visual.named_parameters()}
        there = [tuple(name for name in block if name in owners) for block in (stem, pool)]
        return [there[0], *residual, there[1], ("proj",)]

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""
        return [visual._embeds, *visual.transformer.resblocks, lambda tokens: visual._pool(tokens)[0]]

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block: from the activations before it to features [B, F] and embeddings [B, D]."""
        return Encoded(features=hidden, projected=hidden @ visual.proj)

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map."""
        return 1 + len(visual.transformer.resblocks)

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The class token and the patches of tokens [B, 1 + H W, C]."""
        height, width = visual.grid_size
        return FeatureMap(hidden[:, 1:].transpose(1, 2).unflatten(2, (height, width)), token=hidden[:, 0])

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""
        return int(visual.proj.shape[0])

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""
        return int(visual.proj.shape[1])

    def branches(self, visual: Any) -> list[Branches]:
        """The residual blocks."""
        return [Branches(block, "ls_1", "ls_2", visual.transformer.width) for block in visual.transformer.resblocks]

    def stages(self, visual: Any) -> list[Stage]:
        """None."""
        del visual
        return []


class ResNetTower:
    """How a ModifiedResNet falls into blocks: stem, bottlenecks of the four stages, attention pool."""

    channels_last = True

    def prefixes(self, visual: Any) -> list[tuple[str, ...]]:
        """Parameter prefixes of each block, input first; each parameter lies under one of them."""
        stem = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
        names = [f"layer{stage}.{i}" for stage in range(1, 5) for i in range(len(getattr(visual, f"layer{stage}")))]
        return [stem, *((name,) for name in names), ("attnpool",)]

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""
        return [visual.stem, *visual.layer1, *visual.layer2, *visual.layer3, *visual.layer4]

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block: from the activations before it to features [B, F] and embeddings [B, D]."""
        return Encoded(features=hidden.mean(dim=(2, 3)), projected=visual.attnpool(hidden))

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map."""
        return len(self.steps(visual))

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The map [B, C, H, W] itself."""
        del visual
        return FeatureMap(hidden)

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""
        return int(visual.attnpool.k_proj.in_features)

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""
        return int(visual.attnpool.c_proj.out_features)

    def branches(self, visual: Any) -> list[Branches]:
        """None."""
        del visual
        return []

    def stages(self, visual: Any) -> list[Stage]:
        """The four stages."""
        rows = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
        return [Stage(row, int(row[0].bn3.num_features)) for row in rows]
