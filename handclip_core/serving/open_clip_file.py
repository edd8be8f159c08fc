"""A tower as a folder that open_clip's plain call loads, if its embedding is one that open_clip's class computes."""

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from handclip_core.errors import InputError
from handclip_core.models.architectures import empty, plain_load, plain_names
from handclip_core.models.backbone import WEIGHTS_FILE, load_backbone
from handclip_core.models.names import CONFIG_FILE, LOCAL_FOLDER
from handclip_core.models.neck import EmbeddingAt, NeckInput, NeckKind
from handclip_core.models.weights.files import Tensors, quiet_logs
from handclip_core.models.weights.origin import merged_updates, origin_of
from handclip_core.runs.run_folder import BEST, load_tensors, write_text
from handclip_core.serving.model import ServedEnsemble, ServedModel

TOLERANCE = 1e-4
_TEXT = "backbone.text."


def write_open_clip(served: ServedModel, folder: Path) -> str:
    """Write configuration and weights into ``folder``; says how to load them.

    The text tower is the pretrained one. Raises InputError if the embedding is no plain projection of the tower, the
    text tower's weights are not to be had, or what open_clip loads embeds otherwise.
    """
    _refuse_more_than_a_tower(served)
    name = f"{LOCAL_FOLDER}{folder}"
    write_text(folder / CONFIG_FILE, (served.folder / CONFIG_FILE).read_text(encoding="utf-8"))
    with quiet_logs():
        clip = empty(name, text=True)
        names = plain_names(name)
    _take_text(clip, served)
    missing, extra = clip.visual.load_state_dict(served.model.backbone.visual.state_dict(), strict=False)
    if missing or extra:
        raise InputError(f"open_clip: has no place for what was added to the tower ({(extra or missing)[0]}); use onnx")
    _fold_neck(clip.visual, served)
    weights = {key: value.contiguous() for key, value in with_names(clip.state_dict(), names).items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    worst = _difference(served, plain_load(name))
    if not worst <= TOLERANCE:
        raise InputError(f"{folder}: open_clip's embeddings differ by {worst:.1e} from this model's; use onnx")
    return f'open_clip.create_model("{name}"); embeddings differ by {worst:.1e} at most from this model\'s'


def with_names(weights: Tensors, names: Set[str]) -> Tensors:
    """``weights`` of a CustomTextCLIP under ``names``: in open_clip's plain class the text tower has no prefix."""
    return {own if own in names else own.removeprefix("text."): value for own, value in weights.items()}


def _refuse_more_than_a_tower(served: ServedModel) -> None:
    """Raise InputError, with the reason, if the embedding is not the tower's own, but for a square map that folds."""
    reason = None
    if isinstance(served, ServedEnsemble):
        reason = "it has several towers"
    elif served.experiment.backbone.images_only:
        reason = "its backbone has no text tower"
    elif served.model.tells_aspects:
        reason = "it has a part for each view"
    elif served.model.metric.active:
        reason = "its embedding goes through a metric in closed form"
    else:
        neck = served.model.neck.settings
        plain = neck.kind in (NeckKind.NONE, NeckKind.LINEAR) or neck.embedding is EmbeddingAt.BEFORE
        if neck.source is not NeckInput.PROJECTED:
            reason = f"its embedding is read from '{neck.source}', not from the projection"
        elif not plain:
            reason = f"its embedding is the output of a neck of kind '{neck.kind}'"
    if reason:
        raise InputError(f"open_clip: cannot hold this model: {reason}; choose --to onnx or safetensors")


def _take_text(clip: Any, served: ServedModel) -> None:
    """Give ``clip`` the text tower that the run trained, or else the pretrained one."""
    path = served.folder / BEST
    if served.experiment.strategy.trains_text:
        found = merged_updates(load_tensors(path), alpha=origin_of(path).alpha, source=path)
        text = {name.removeprefix(_TEXT): value for name, value in found.items() if name.startswith(_TEXT)}
        if text:
            clip.text.load_state_dict(text)
            clip.logit_scale.data.copy_(found["backbone.logit_scale"])
            return
    try:
        pretrained = load_backbone(served.experiment.backbone, text=True)
    except InputError as error:
        raise InputError(
            f"open_clip: a file of it holds a text tower, whose weights are not in the run: {error}"
        ) from None
    assert pretrained.text is not None
    assert pretrained.logit_scale is not None
    clip.text.load_state_dict(pretrained.text.state_dict())
    clip.logit_scale.data.copy_(pretrained.logit_scale.data)


@torch.no_grad()
def _fold_neck(visual: Any, served: ServedModel) -> None:
    """Put a linear neck into the tower's last map; raises InputError if that is no single one."""
    neck = served.model.neck
    if neck.settings.kind is not NeckKind.LINEAR or neck.settings.embedding is EmbeddingAt.BEFORE:
        return
    weight = neck.layer.weight
    if isinstance(getattr(visual, "proj", None), torch.nn.Parameter):
        visual.proj.copy_(visual.proj @ weight.T)
    elif hasattr(visual, "attnpool"):
        last = visual.attnpool.c_proj
        last.weight.copy_(weight @ last.weight)
        last.bias.copy_(weight @ last.bias)
    else:
        raise InputError("open_clip: cannot hold this model: its tower has no last map for the linear neck; use onnx")


@torch.no_grad()
def _difference(served: ServedModel, clip: Any) -> float:
    size = served.size_px
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    backbone = served.model.architecture
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    theirs = F.normalize(clip.encode_image((pixels - backbone.mean.cpu()) / backbone.std.cpu()).float(), dim=1)
    return float(np.abs(theirs.numpy() - served.embed_squares(images)).max())
