"""Image towers of timm without a text tower, such as DINOv2 and DINOv3: built, described, and their files read."""

import sys
from typing import Any

import timm
import torch
from timm.models import list_pretrained
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.names import TIMM
from handclip_core.models.weights.files import CONTAINER, Tensors
from handclip_core.models.weights.names import unwrapped

ARCHITECTURE = "timm_architecture"
"""The key of a run's description of its tower that says which one of timm it is."""
_MASK = "mask_token"
"""In files of DINOv2 and DINOv3 as Meta published them, whose names timm knows how to change."""


class ImageTower(nn.Module):
    """A model of timm without its classifier, described as open_clip describes its towers."""

    def __init__(self, architecture: str, *, pretrained: bool = False) -> None:
        """``architecture`` is timm's name, perhaps with the tag of its weights; what timm raises passes through."""
        super().__init__()
        self.trunk = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
        self.head = nn.Sequential()
        found = self.trunk.pretrained_cfg
        self.image_size = tuple(found["input_size"][1:])
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


def tagged(name: str, tag: str) -> ImageTower:
    """The tower ``name`` with the weights ``tag``, from the cache or the network; what timm raises passes through."""
    return ImageTower(f"{(architecture_in(name) or '').partition('.')[0]}.{tag}", pretrained=True)


def converted_by_timm(tower: ImageTower, tensors: Tensors) -> Tensors:
    """``tensors`` by timm's names and without a classifier."""
    named = tower.trunk.pretrained_cfg.get("classifier") or ()
    classifiers = (named,) if isinstance(named, str) else tuple(named)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if unwrapped(name).rpartition(CONTAINER)[2].rpartition(".")[0] not in classifiers
    }
    change = getattr(sys.modules[type(tower.trunk).__module__], "checkpoint_filter_fn", None)
    if _MASK not in kept or change is None:
        return kept
    changed: Tensors = change(kept, tower.trunk)
    return changed


def description_of(tower: ImageTower) -> dict[str, Any]:
    """What ``from_description`` builds an equal tower from, with random weights."""
    found = tower.trunk.pretrained_cfg
    tag = found.get("tag")
    return {
        ARCHITECTURE: f"{found['architecture']}.{tag}" if tag else found["architecture"],
        "preprocess_cfg": dict(tower.preprocess_cfg),
    }


def from_description(description: dict[str, Any]) -> ImageTower:
    """The tower of a ``description``; what timm raises passes through."""
    return ImageTower(description[ARCHITECTURE])


@torch.no_grad()
def differs(tower: ImageTower, by_blocks: Tensor, pixels: Tensor) -> bool:
    """Whether what the blocks of a tower make of normalised ``pixels`` [B, 3, H, W] is not what timm computes."""
    return not torch.allclose(tower(pixels), by_blocks, rtol=1e-3, atol=1e-4)
