"""Image towers of timm, in open_clip's models or by themselves: transformers over tokens, and stages over maps.

SigLIP, EVA, PE-Core, ViTamin and some of MobileCLIP are transformers; ConvNeXt, Swin and FastViT (MobileCLIP, too) are
towers of stages. A tower ends in pooling and a projection; if it has none (SigLIP), the pooling is the last block.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from handclip_core.models.towers.timm_resnet import TimmResNet, is_resnet
from handclip_core.models.towers.tower import Branches, Stage
from handclip_core.types import Encoded, FeatureMap

Names = tuple[str, ...]

_PROJECTION: Names = ("trunk.head.fc", "head")
_AFTER_STAGES = ("norm_pre", "final_conv", "norm")


class TimmTransformer:
    """A transformer of timm: stem, residual blocks, final norm and pooling, projection."""

    channels_last = False

    def prefixes(self, visual: Any) -> list[Names]:
        """Parameter prefixes of each block, input first; each parameter lies under one of them."""
        stem = ("patch_embed", "cls_token", "reg_token", "pos_embed", "norm_pre", "rope")
        pool = ("norm", "fc_norm", "attn_pool")
        return _present(
            visual,
            [
                tuple(f"trunk.{name}" for name in stem),
                *((f"trunk.blocks.{i}",) for i in range(len(visual.trunk.blocks))),
                tuple(f"trunk.{name}" for name in pool),
                ("trunk.head", "head"),
            ],
        )

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""
        trunk = visual.trunk
        blocks = [_with_positions(trunk, block) for block in trunk.blocks]
        pool = [lambda tokens: trunk.forward_head(trunk.norm(tokens), pre_logits=True)]
        return [lambda pixels: _tokens(trunk, pixels), *blocks, *(pool if _projects(visual) else [])]

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block: from the activations before it to features [B, F] and embeddings [B, D]."""
        if _projects(visual):
            return Encoded(features=hidden, projected=_project(visual, hidden))
        tokens = visual.trunk.norm(hidden)
        mean = tokens[:, visual.trunk.num_prefix_tokens :].mean(dim=1)
        return Encoded(features=mean, projected=visual.trunk.forward_head(tokens))

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map."""
        return 1 + len(visual.trunk.blocks)

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The class token, if there is one, and the patches of tokens [B, prefix + H W, C]."""
        trunk = visual.trunk
        patches = hidden[:, trunk.num_prefix_tokens :].transpose(1, 2).unflatten(2, tuple(trunk.patch_embed.grid_size))
        return FeatureMap(patches, token=hidden[:, 0] if trunk.cls_token is not None else None)

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""
        return int(visual.trunk.head_hidden_size)

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""
        return _dim(visual)

    def branches(self, visual: Any) -> list[Branches]:
        """The residual blocks."""
        trunk = visual.trunk
        return [Branches(block, "drop_path1", "drop_path2", int(trunk.embed_dim)) for block in trunk.blocks]

    def stages(self, visual: Any) -> list[Stage]:
        """None."""
        del visual
        return []


class TimmStages:
    """A tower of stages of timm: stem, the blocks of all stages, final norm or convolution and pooling, projection."""

    # The gradient of depthwise convolutions with the channels last writes out of bounds on CPUs (torch 2.15).
    channels_last = False

    def __init__(self, *, convolutional: bool) -> None:
        self._convolutional = convolutional

    def prefixes(self, visual: Any) -> list[Names]:
        """Parameter prefixes of each block, input first; what enters a stage is of its first block."""
        row, stages = _stages(visual.trunk)
        blocks = [
            (f"{row}.{i}.blocks.{j}", *((f"{row}.{i}.downsample", f"{row}.{i}.pos_emb") if j == 0 else ()))
            for i, stage in enumerate(stages)
            for j in range(len(stage.blocks))
        ]
        last = (*(f"trunk.{name}" for name in _AFTER_STAGES), "trunk.head.norm", "trunk.head.pre_logits")
        return _present(visual, [("trunk.stem", "trunk.patch_embed"), *blocks, last, _PROJECTION])

    def steps(self, visual: Any) -> list[Callable[[Tensor], Tensor]]:
        """All blocks but the last, each from activations to activations, pixels [B, 3, H, W] first."""
        trunk = visual.trunk
        blocks = [
            _entered(stage, block) if j == 0 else block
            for stage in _stages(trunk)[1]
            for j, block in enumerate(stage.blocks)
        ]
        pool = [lambda hidden: trunk.forward_head(_after_stages(trunk, hidden), pre_logits=True)]
        return [
            trunk.stem if hasattr(trunk, "stem") else trunk.patch_embed,
            *blocks,
            *(pool if _projects(visual) else []),
        ]

    def last_block(self, visual: Any, hidden: Tensor) -> Encoded:
        """The last block: from the activations before it to features [B, F] and embeddings [B, D]."""
        if _projects(visual):
            return Encoded(features=hidden, projected=_project(visual, hidden))
        found = _after_stages(visual.trunk, hidden)
        mean = self.feature_map(visual, found).values.mean(dim=(2, 3))
        return Encoded(features=mean, projected=visual.trunk.forward_head(found))

    def num_maps(self, visual: Any) -> int:
        """How many leading blocks have a map."""
        return 1 + sum(len(stage.blocks) for stage in _stages(visual.trunk)[1])

    def feature_map(self, visual: Any, hidden: Tensor) -> FeatureMap:
        """The map [B, C, H, W] itself, whose channels Swin has last."""
        last = getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC"
        return FeatureMap(hidden.permute(0, 3, 1, 2) if last else hidden)

    def width(self, visual: Any) -> int:
        """The number F of trunk features."""
        return int(visual.trunk.head_hidden_size)

    def dim(self, visual: Any) -> int:
        """The number D of an embedding."""
        return _dim(visual)

    def branches(self, visual: Any) -> list[Branches]:
        """The residual blocks of Swin; none of a convolutional tower."""
        if self._convolutional:
            return []
        found = zip(_stages(visual.trunk)[1], visual.trunk.feature_info, strict=True)
        return [
            Branches(block, "drop_path1", "drop_path2", info["num_chs"])
            for stage, info in found
            for block in stage.blocks
        ]

    def stages(self, visual: Any) -> list[Stage]:
        """The stages of a convolutional tower; none of Swin."""
        if not self._convolutional:
            return []
        found = zip(_stages(visual.trunk)[1], visual.trunk.feature_info, strict=True)
        return [Stage(stage.blocks, info["num_chs"]) for stage, info in found]


def tower_in_timm(visual: Any) -> TimmTransformer | TimmStages | TimmResNet | None:
    """The kind of an image tower that open_clip has from timm; None for one that does not fall into blocks here."""
    trunk = visual.trunk
    if hasattr(visual.head, "pool"):
        return None
    if hasattr(trunk, "blocks") and hasattr(trunk, "num_prefix_tokens"):
        # These give all blocks something that the stem computes, or leave out other patches in each.
        shared = getattr(trunk, "shared_rel_pos", None) is not None or getattr(trunk, "rope_mixed", False)
        drops = hasattr(trunk, "rope") and trunk.patch_drop is not None
        return None if shared or drops else TimmTransformer()
    row = getattr(trunk, "stages", getattr(trunk, "layers", ()))
    if len(row) and all(hasattr(stage, "blocks") and hasattr(stage, "downsample") for stage in row):
        return TimmStages(convolutional=hasattr(trunk, "stages"))
    return TimmResNet() if is_resnet(visual) else None


def _present(visual: Any, blocks: list[Names]) -> list[Names]:
    """Of each block the names that have parameters; a last block without any is left out."""
    owned = [name for name, _ in visual.named_parameters()]
    there = [
        tuple(prefix for prefix in block if any(f"{name}.".startswith(f"{prefix}.") for name in owned))
        for block in blocks
    ]
    return there if there[-1] else there[:-1]


def _projects(visual: Any) -> bool:
    """Whether a projection follows the pooling."""
    return _dim_of_projection(visual) is not None


def _dim_of_projection(visual: Any) -> int | None:
    layers = [visual.trunk.get_classifier(), *visual.head.modules()]
    sizes = [layer.out_features for layer in layers if hasattr(layer, "out_features")]
    return int(sizes[-1]) if sizes else None


def _dim(visual: Any) -> int:
    return _dim_of_projection(visual) or int(visual.trunk.head_hidden_size)


def _project(visual: Any, features: Tensor) -> Tensor:
    found: Tensor = visual.head(visual.trunk.get_classifier()(features))
    return found


def _tokens(trunk: Any, pixels: Tensor) -> Tensor:
    """Tokens [B, L, C] that enter the first block."""
    patches = trunk.patch_embed(pixels)
    if not hasattr(trunk, "_pos_embed"):
        first = [] if trunk.cls_token is None else [trunk.cls_token.expand(len(patches), -1, -1)]
        return torch.cat([*first, patches], dim=1)
    placed = trunk._pos_embed(patches)
    tokens = placed[0] if isinstance(placed, tuple) else trunk.patch_drop(placed)
    entered: Tensor = trunk.norm_pre(tokens)
    return entered


def _with_positions(trunk: Any, block: Any) -> Callable[[Tensor], Tensor]:
    """A residual block as a function of the tokens alone."""
    rope = getattr(trunk, "rope", None)
    if rope is None:
        found: Callable[[Tensor], Tensor] = block
        return found
    return lambda tokens: block(tokens, rope=rope.get_embed(shape=list(trunk.patch_embed.grid_size)))


def _stages(trunk: Any) -> tuple[str, Any]:
    """The name of the row of stages, and the stages."""
    return ("trunk.stages", trunk.stages) if hasattr(trunk, "stages") else ("trunk.layers", trunk.layers)


def _entered(stage: Any, block: Any) -> Callable[[Tensor], Tensor]:
    """The first block of a stage, behind what leads into the stage."""

    def step(hidden: Tensor) -> Tensor:
        found = stage.downsample(hidden)
        found = stage.pos_emb(found) if hasattr(stage, "pos_emb") else found
        result: Tensor = block(found)
        return result

    return step


def _after_stages(trunk: Any, hidden: Tensor) -> Tensor:
    for name in _AFTER_STAGES:
        hidden = getattr(trunk, name)(hidden) if hasattr(trunk, name) else hidden
    return hidden
