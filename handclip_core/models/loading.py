"""From settings to a backbone: architecture, weights, and what the user should know of them.

open_clip takes longer to import than all else together, so ``load_backbone`` imports this when it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from handclip_core.errors import InputError
from handclip_core.models import architectures
from handclip_core.models.backbone import RANDOM, Backbone, BackboneSettings
from handclip_core.models.image_towers import ImagesOnly, ImageTower, differs, tag_in
from handclip_core.models.names import folder_of
from handclip_core.models.weights.activation import activation_notes, quick_gelu_of
from handclip_core.models.weights.files import quiet_logs, read_tensors, weights_in
from handclip_core.models.weights.fit import fit, refuse_non_finite
from handclip_core.models.weights.origin import merged_updates, origin_of

INITIAL_SEED = 0


def load(settings: BackboneSettings, *, text: bool) -> Backbone:
    """What ``load_backbone`` gives."""
    with torch.random.fork_rng(devices=[]), quiet_logs():
        torch.manual_seed(INITIAL_SEED)
        loaded = _create(settings, text=text)
    clip = loaded.clip
    if text and isinstance(clip, ImagesOnly):
        raise InputError(f"backbone.name: {settings.name} is an image tower alone; texts are read by a CLIP")
    tower = architectures.tower_of(clip.visual, settings.name)
    tokenizer = architectures.tokenizer_of(settings.name, clip.text) if text else None
    backbone = Backbone(clip, settings, tower, tokenizer)
    refuse_non_finite(backbone, source=loaded.source)
    if isinstance(clip, ImagesOnly):
        _refuse_other_blocks(backbone, clip.visual)
    backbone.notes = loaded.notes
    if tower.channels_last:
        # Convolutions run up to twice as fast with the channels last.
        backbone.visual.to(memory_format=torch.channels_last)
    return backbone.float().eval()


@torch.no_grad()
def _refuse_other_blocks(backbone: Backbone, tower: ImageTower) -> None:
    """Raise InputError if the blocks are not all of the tower: timm has more kinds than are known here."""
    blocks = tuple(f"{prefix}." for prefixes in backbone.blocks() for prefix in prefixes)
    backbone.float().eval()
    chosen = torch.Generator().manual_seed(0)  # no constant: patches that are all alike hide how places are told apart
    shown = torch.rand((1, 3, backbone.image_px, backbone.image_px), generator=chosen)
    left = [name for name, _ in tower.named_parameters(prefix="visual") if not f"{name}.".startswith(blocks)]
    if left or differs(tower, backbone(shown).projected, (shown - backbone.mean) / backbone.std):
        what = f"('{left[0]}' is in none)" if left else "(they compute something else)"
        raise InputError(f"backbone.name: {backbone.name} does not fall into blocks that are known here {what}")


@dataclass(frozen=True)
class _Loaded:
    """open_clip's ``clip`` with weights from ``source``, and what the user should know of them."""

    clip: Any
    source: str
    notes: tuple[str, ...] = ()


def _create(settings: BackboneSettings, *, text: bool) -> _Loaded:
    name, weights = settings.name, settings.pretrained
    architectures.refuse_unknown(name)
    folder = folder_of(name)
    if weights == RANDOM:
        return _Loaded(architectures.empty(name, text=text, image_px=settings.image_px), RANDOM)
    tag = tag_in(name) if weights is None else weights if architectures.is_tag(name, weights) else None
    if tag is not None:
        return _Loaded(architectures.published(name, tag, image_px=settings.image_px), f"{name} {tag}")
    path = _weights_of(name, folder) if weights is None else _existing(Path(weights), name)
    return _from_file(name, path, text=text, image_px=settings.image_px)


def _weights_of(name: str, folder: Path | None) -> Path:
    if folder is None:
        raise InputError(
            f"backbone.pretrained: {name} needs weights: a tag ({architectures.tags_of(name)}) or the path of a weight "
            "file"
        )
    return _existing(folder, name)


def _existing(path: Path, name: str) -> Path:
    if path.exists():
        return weights_in(path)
    tags = architectures.tags_of(name)
    raise InputError(f"backbone.pretrained: '{path}' is neither a file nor a tag of {name} ({tags})")


def _from_file(name: str, path: Path, *, text: bool, image_px: int | None) -> _Loaded:
    if path.suffix in (".npz", ".npy"):
        clip = architectures.empty(name, text=True)
        architectures.load_numpy(clip, path)
        return _Loaded(clip, str(path))
    origin = origin_of(path)
    tensors = merged_updates(read_tensors(path), alpha=origin.alpha, source=path)
    quick = quick_gelu_of(path, tensors, origin)
    activation = quick if architectures.twin_of(name) or quick else None
    with _Undrawn():
        clip = architectures.empty(name, text=text, quick_gelu=activation, image_px=image_px)
    notes = fit(
        clip,
        architectures.converted(clip, tensors),
        source=path,
        name=name,
        text=text,
        resize=lambda found: architectures.resize_positions(clip, found),
    )
    return _Loaded(clip, str(path), (*notes, *activation_notes(name, path, quick)))


class _Undrawn(TorchFunctionMode):
    """While it is on, modules leave the weights as they are that they would draw: a file's take their place at once.

    Drawing them takes half of the time of loading a ViT-B/32.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        return (args[0] if args else kwargs["tensor"]) if func in _DRAW else func(*args, **kwargs)


_DRAW = (Tensor.uniform_, Tensor.normal_, init.uniform_, init.normal_, init.trunc_normal_, init.kaiming_uniform_)
