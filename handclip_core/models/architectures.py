"""Architectures and published weights: the one place that imports open_clip."""

import json
from pathlib import Path
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from open_clip.factory import load_checkpoint, set_model_preprocess_cfg
from open_clip.model import CustomTextCLIP, resize_pos_embed, resize_text_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import nn

from handclip_core.errors import InputError
from handclip_core.models.image_towers import (
    ARCHITECTURE,
    ImagesOnly,
    ImageTower,
    architecture_in,
    converted_by_timm,
    description_of,
    from_description,
    has_tag,
    refuse_unknown_architecture,
    tagged,
)
from handclip_core.models.image_towers import tags as tags_of_tower
from handclip_core.models.names import CONFIG_FILE, LOCAL_FOLDER, NANO, QUICK, TIMM, folder_of
from handclip_core.models.towers.native import ResNetTower, TransformerTower
from handclip_core.models.towers.timm_towers import tower_in_timm
from handclip_core.models.towers.tower import Tower
from handclip_core.models.weights.files import UNREADABLE, Tensors, one_line
from handclip_core.models.weights.hugging_face import open_clip_config, preprocessing
from handclip_core.models.weights.origin import CONFIG, PREPROCESSING, origin_of
from handclip_core.paths import input_folder, shown_path

_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
"""A text tower that takes no room, for image towers alone."""


def refuse_unknown(name: str) -> None:
    """Raise InputError for a name that nothing has."""
    if architecture_in(name):
        refuse_unknown_architecture(name)
    elif folder_of(name) is None and name not in open_clip.list_models():
        choices = f"{NANO}, {LOCAL_FOLDER}FOLDER, {TIMM}MODEL or a name of open_clip such as ViT-B-32, ViT-B-16, RN50"
        raise InputError(f"backbone.name: unknown model '{name}'; choose {choices}")


def tags_of(name: str) -> str:
    """The tags of the published weights of ``name``, the first of them, in words."""
    tags = tags_of_tower(name) if architecture_in(name) else list_pretrained_tags_by_model(name)
    return ", ".join(tags[:3] + ["..."] * (len(tags) > 3)) or "it has none"


def is_tag(name: str, tag: str) -> bool:
    """Whether there are published weights ``tag`` of ``name``."""
    return has_tag(name, tag) if architecture_in(name) else bool(get_pretrained_cfg(name, tag))


def tag_quick_gelu(name: str, tag: str) -> bool:
    """Whether the published weights ``tag`` of ``name`` were trained with QuickGELU."""
    return name.endswith(QUICK) or bool(get_pretrained_cfg(name, tag).get("quick_gelu", False))


def twin_of(name: str) -> str | None:
    """The same architecture with QuickGELU, or without it; None if open_clip has none."""
    twin = name.removesuffix(QUICK) if name.endswith(QUICK) else f"{name}{QUICK}"
    return twin if twin in open_clip.list_models() else None


def empty(name: str, *, text: bool, quick_gelu: bool | None = None, image_px: int | None = None) -> Any:
    """The CustomTextCLIP ``name`` with random weights, its text tower the smallest there is unless ``text``.

    ``quick_gelu`` overrides what the name says; ``image_px`` is the size of images of a tower of timm. Raises
    InputError for a folder or a text tower that cannot be used.
    """
    changes: dict[str, Any] = {} if quick_gelu is None else {"quick_gelu": quick_gelu}
    # A CoCa draws its text tower first: without it, random weights would be others.
    draws_text_first = "multimodal_cfg" in (open_clip.get_model_config(name) or {} if folder_of(name) is None else {})
    changes |= {} if text or draws_text_first else {"text_cfg": dict(_NO_TEXT)}
    folder = folder_of(name)
    if folder:
        _look_at(folder)
    origin = origin_of(folder) if folder and not (folder / CONFIG_FILE).exists() else None
    try:
        if tower := _image_tower(name, folder, image_px):
            return ImagesOnly(tower)
        if folder and origin and origin.is_clip_of_transformers:
            config = {**open_clip_config(origin.config, source=str(folder)), **changes}
            clip = CustomTextCLIP(**config)
            set_model_preprocess_cfg(clip, {"size": clip.visual.image_size, **_preprocessing(folder)})
            return clip
        source = f"{LOCAL_FOLDER}{folder}" if folder else name
        return open_clip.create_model(
            source, load_weights=False, force_custom_text=True, pretrained_text=False, **changes
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        what = f"has no usable {CONFIG_FILE}" if folder else "cannot be built"
        raise InputError(f"backbone.name: {name} {what}: {one_line(error)}") from None


def _look_at(folder: Path) -> None:
    try:
        input_folder(folder, mend=f"name a folder that holds {CONFIG_FILE}")
    except InputError as error:
        raise InputError(f"backbone.name: {error}") from None
    if not any((folder / name).is_file() for name in (CONFIG_FILE, CONFIG)):
        raise InputError(f"backbone.name: {shown_path(folder)}: holds neither {CONFIG_FILE} nor {CONFIG}")


def config_of(name: str, visual: nn.Module) -> dict[str, Any]:
    """The contents of a CONFIG_FILE from which ``empty`` builds ``name`` again; ``visual`` is its image tower."""
    if isinstance(visual, ImageTower):
        return description_of(visual)
    folder = folder_of(name)
    if folder and not (folder / CONFIG_FILE).exists():
        model = open_clip_config(origin_of(folder).config, source=str(folder))
    else:
        model = open_clip.get_model_config(f"{LOCAL_FOLDER}{folder}" if folder else name) or {}
    # Weights decide on the activation as much as names do.
    quick = any(isinstance(module, QuickGELU) for module in visual.modules())
    wanted = dict(getattr(visual, "preprocess_cfg", None) or {})
    wanted |= {"mean": list(visual.image_mean), "std": list(visual.image_std)}  # type: ignore[arg-type]
    return {"model_cfg": {**model, "quick_gelu": quick}, "preprocess_cfg": wanted}


def plain_names(name: str) -> set[str]:
    """The names of the weights of what open_clip's plain call makes of ``name``."""
    return set(open_clip.create_model(name, load_weights=False, pretrained_text=False).state_dict())


def plain_load(name: str) -> Any:
    """A model as open_clip's plain call loads it from a folder, ``name``."""
    return open_clip.create_model(name).eval()


def published(name: str, tag: str, *, image_px: int | None = None) -> Any:
    """The CustomTextCLIP ``name`` with published weights; raises InputError if they cannot be fetched."""
    try:
        if architecture_in(name):
            return ImagesOnly(tagged(name, tag, image_px=image_px))
        return open_clip.create_model(
            name,
            pretrained=tag,
            require_pretrained=True,
            force_custom_text=True,
            force_quick_gelu=tag_quick_gelu(name, tag),
        )
    except UNREADABLE as error:
        mend = "connect to the network, or copy the weight file here and give its path as backbone.pretrained"
        raise InputError(f"backbone.pretrained: no weights '{tag}' of {name}: {mend} ({one_line(error)})") from None


def load_numpy(clip: Any, path: Path) -> None:
    """Load a SigLIP of big_vision, an ``.npz``, into ``clip``; raises InputError if it is none, or another one."""
    try:
        load_checkpoint(clip, str(path))
    except UNREADABLE as error:
        raise InputError(f"{path}: not a SigLIP of big_vision that fits, or damaged ({one_line(error)})") from None


def converted(clip: Any, tensors: Tensors) -> Tensors:
    """``tensors`` by names of open_clip if they are of a MobileCLIP as Apple published it, or by names of timm."""
    if isinstance(clip.visual, ImageTower):
        return converted_by_timm(clip.visual, tensors)
    found: Tensors = convert_state_dict(clip, tensors)
    return found


def resize_positions(clip: Any, tensors: Tensors) -> None:
    """Fit the position embeddings in ``tensors`` to the image size and context of ``clip``, a CLIP of open_clip."""
    resize_pos_embed(tensors, clip)
    if "text.positional_embedding" in tensors:
        resize_text_pos_embed(tensors, clip)


def tower_of(visual: nn.Module, name: str) -> Tower:
    """How the image tower of ``name`` falls into blocks; raises InputError for a kind that is not known."""
    if isinstance(visual, VisionTransformer) and visual.pool_type != "none":
        return TransformerTower()
    if isinstance(visual, ModifiedResNet):
        return ResNetTower()
    found = tower_in_timm(visual) if isinstance(visual, TimmModel | ImageTower) else None
    if found is None:
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise InputError(f"backbone.name: {name} has an image tower of kind {kind}, which does not fall into blocks")
    return found


def tokenizer_of(name: str, text: Any) -> Any:
    """The tokenizer of ``name``; raises InputError for a text tower of another kind, or if it cannot be fetched."""
    if not isinstance(text, TextTransformer):
        kind = type(text).__name__
        raise InputError(f"backbone.name: {name} has a text tower of kind {kind}; choose a ViT-... or RN... name")
    folder = folder_of(name)
    if folder and not (folder / CONFIG_FILE).exists():
        return open_clip.SimpleTokenizer(context_length=text.context_length)
    try:
        source = f"{LOCAL_FOLDER}{folder}" if folder else name
        return open_clip.get_tokenizer(source, context_length=text.context_length)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"backbone.name: the tokenizer of {name} cannot be fetched; connect to the network, or choose a strategy "
            f"that reads no text ({one_line(error)})"
        ) from None


def _image_tower(name: str, folder: Path | None, image_px: int | None) -> ImageTower | None:
    """The tower of timm that ``name`` says, or the description in its folder; None for a CLIP."""
    if architecture := architecture_in(name):
        return ImageTower(architecture, image_px=image_px)
    if not folder or not (folder / CONFIG_FILE).exists():
        return None
    described = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return from_description(described) if isinstance(described, dict) and ARCHITECTURE in described else None


def _preprocessing(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    chosen = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    return {**chosen, **preprocessing(found if isinstance(found, dict) else {})}
