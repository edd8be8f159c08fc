"""Image towers of timm without a text tower, such as DINOv2 and DINOv3: built, described, and their files read."""

import math
import sys
from typing import Any

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import list_pretrained
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.names import TIMM
from handclip_core.models.weights.files import CONTAINER, Tensors
from handclip_core.models.weights.names import unwrapped

ARCHITECTURE, IMAGE_PX = "timm_architecture", "image_px"
"""The keys of a run's description of its tower that say which one of timm it is, and of what size its images."""
_POSITIONS = "pos_embed"
_MASK = "mask_token"
"""In files of DINOv2 and DINOv3 as Meta published them, whose names timm knows how to change."""


class ImageTower(nn.Module):
    """A model of timm without its classifier, described as open_clip describes its towers."""

    trunk: Any

    def __init__(self, architecture: str, *, pretrained: bool = False, image_px: int | None = None) -> None:
        """``architecture`` is timm's name, perhaps with the tag of its weights; what timm raises passes through.

        ``image_px`` is the width and height of images, None for what the weights were trained with.
        """
        super().__init__()
        known = timm.get_pretrained_cfg(architecture)
        sized: dict[str, Any] = (
            {"img_size": image_px} if image_px and known is not None and known.fixed_input_size else {}
        )
        # timm takes the mean over patches for DINOv3's transformers, whose embedding is the class token as DINOv2's is.
        plain = architecture.partition(".")[0]
        pooled: dict[str, Any] = {"global_pool": "token"} if plain.startswith("vit_") and "dinov3" in plain else {}
        self.trunk = timm.create_model(architecture, pretrained=pretrained, num_classes=0, **sized, **pooled)
        self.head = nn.Sequential()
        found = self.trunk.pretrained_cfg
        self.image_size = (image_px, image_px) if image_px else tuple(found["input_size"][1:])
        self.image_mean, self.image_std = tuple(found["mean"]), tuple(found["std"])
        self.preprocess_cfg = {"mean": self.image_mean, "std": self.image_std, "interpolation": found["interpolation"]}

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeddings [B, D] of normalised ``pixels`` [B, 3, H, W]."""
        embedded: Tensor = self.trunk(pixels)
        return embedded


class ImagesOnly(nn.Module):
    """Stands where a CLIP is expected, but has no more than the tower ``visual``."""

    def __init__(self, visual: ImageTower) -> None:
        super().__init__()
        self.visual = visual


def architecture_in(name: str) -> str | None:
    """timm's name in the name of a backbone; None for any other backbone."""
    return name.removeprefix(TIMM) if name.startswith(TIMM) else None


def refuse_unknown_architecture(name: str) -> None:
    """Raise InputError if timm has no architecture, or no weights with the tag, of that name."""
    plain, _, tag = (architecture_in(name) or "").partition(".")
    if not timm.is_model(plain):
        close = timm.list_models(f"*{plain}*")[:3] if len(plain) > 2 else []
        hint = f"; there are {', '.join(close)}, ..." if close else ""
        raise InputError(f"backbone.name: timm has no model '{plain}'{hint}")
    if tag and not has_tag(name, tag):
        raise InputError(f"backbone.name: timm has no weights '{tag}' of {plain}; there are {', '.join(tags(name))}")


def tags(name: str) -> list[str]:
    """The tags of the weights that timm knows for the architecture of ``name``."""
    plain = (architecture_in(name) or "").partition(".")[0]
    return [found.partition(".")[2] for found in list_pretrained(f"{plain}.*")]


def has_tag(name: str, tag: str) -> bool:
    """Whether timm knows weights ``tag`` of the architecture of ``name``."""
    return tag in tags(name)


def tag_in(name: str) -> str | None:
    """The tag of the weights that ``name`` says or leaves no choice of; None for the name of anything else."""
    own = (architecture_in(name) or "").partition(".")[2]
    known = tags(name) if architecture_in(name) else []
    return own or (known[0] if len(known) == 1 else None)


def tagged(name: str, tag: str, *, image_px: int | None) -> ImageTower:
    """The tower ``name`` with the weights ``tag``, from the cache or the network; what timm raises passes through."""
    plain = (architecture_in(name) or "").partition(".")[0]
    return ImageTower(f"{plain}.{tag}", pretrained=True, image_px=image_px)


def converted_by_timm(tower: ImageTower, tensors: Tensors) -> Tensors:
    """``tensors`` by timm's names, without a classifier, and with positions for the size of images of ``tower``."""
    named = tower.trunk.pretrained_cfg.get("classifier") or ()
    classifiers = (named,) if isinstance(named, str) else tuple(named)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if unwrapped(name).rpartition(CONTAINER)[2].rpartition(".")[0] not in classifiers
    }
    change = getattr(sys.modules[type(tower.trunk).__module__], "checkpoint_filter_fn", None)
    changed: Tensors = change(kept, tower.trunk) if _MASK in kept and change is not None else kept
    return {
        name: _fitted(value, tower.trunk) if name.endswith(_POSITIONS) else value for name, value in changed.items()
    }


def _fitted(positions: Tensor, trunk: Any) -> Tensor:
    """Positions [1, L, C] for the grid of patches of ``trunk``, if theirs is another one."""
    wanted = getattr(trunk, "pos_embed", None)
    if wanted is None or wanted.shape == positions.shape or wanted.shape[2:] != positions.shape[2:]:
        return positions
    prefix = 0 if getattr(trunk, "no_embed_class", False) else trunk.num_prefix_tokens
    if math.isqrt(positions.shape[1] - prefix) ** 2 != positions.shape[1] - prefix:
        return positions
    resized: Tensor = resample_abs_pos_embed(positions, trunk.patch_embed.grid_size, num_prefix_tokens=prefix)
    return resized


def description_of(tower: ImageTower) -> dict[str, Any]:
    """What ``from_description`` builds an equal tower from, with random weights."""
    found = tower.trunk.pretrained_cfg
    tag = found.get("tag")
    return {
        ARCHITECTURE: f"{found['architecture']}.{tag}" if tag else found["architecture"],
        IMAGE_PX: tower.image_size[0] if tower.image_size != tuple(found["input_size"][1:]) else None,
        "preprocess_cfg": dict(tower.preprocess_cfg),
    }


def from_description(description: dict[str, Any]) -> ImageTower:
    """The tower of a ``description``; what timm raises passes through."""
    return ImageTower(description[ARCHITECTURE], image_px=description.get(IMAGE_PX))


@torch.no_grad()
def differs(tower: ImageTower, by_blocks: Tensor, pixels: Tensor) -> bool:
    """Whether what the blocks of a tower make of normalised ``pixels`` [B, 3, H, W] is not what timm computes."""
    return not torch.allclose(tower(pixels), by_blocks, rtol=1e-3, atol=1e-4)
