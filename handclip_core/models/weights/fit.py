"""A file's tensors put into a model, or a refusal that says what the file holds and what was wanted."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from handclip_core.errors import InputError
from handclip_core.models.weights.files import CONTAINER, Tensors
from handclip_core.models.weights.names import TEXT, TOWER, Place, find

MOST_NAMED = 3
_SCALARS = ("logit_scale", "logit_bias")
_POSITIONS = ("visual.positional_embedding", "text.positional_embedding")
_COUNTER = "num_batches_tracked"

Resize = Callable[[Tensors], None]


def fit(clip: nn.Module, tensors: Tensors, *, source: Path, name: str, text: bool, resize: Resize) -> tuple[str, ...]:
    """Load ``tensors`` of the file ``source`` into ``clip``, a CustomTextCLIP called ``name``.

    The image tower has to be there as a whole, and so has the text tower if ``text``; tensors of another model in
    either are refused. ``resize`` fits position embeddings of another image size or context in place. Returns what the
    user should know. Raises InputError.
    """
    wanted = clip.state_dict()
    place = find(tensors, wanted)
    if place is None:
        raise InputError(f"{source}: holds {_summary(tensors)}; nothing of it is named as the image tower of {name}")
    if any(other.rpartition(CONTAINER)[0] == place.prefix.rpartition(CONTAINER)[0] for other in place.rivals):
        towers = ", ".join(f"'{prefix.removesuffix('.')}'" for prefix in (place.prefix, *place.rivals))
        raise InputError(f"{source}: holds several image towers ({towers}); save the weights of one of them")
    weights = {
        **_tower(place, wanted, TOWER, source=source, name=name),
        **(_tower(place, wanted, TEXT, source=source, name=name) if text else {}),
        **{key: place.read(key).reshape(wanted[key].shape) for key in _SCALARS if key in wanted and place.has(key)},
    }
    _refuse_shapes(weights, wanted, source=source, name=name, resize=resize)
    clip.load_state_dict(weights, strict=False)
    return _notes(place, source)


def _tower(place: Place, wanted: Tensors, root: str, *, source: Path, name: str) -> Tensors:
    """The tensors of the tower ``root``; raises InputError if some are missing, or others are in their place."""
    names = [key for key in wanted if key.startswith(root)]
    there = [key for key in names if place.has(key)]
    missing = [key for key in names if key not in there and not key.endswith(_COUNTER)]
    if root == TEXT and not there:
        raise InputError(
            f"{source}: holds the image tower of {name} alone, but texts are to be read; give weights of both towers"
        )
    if missing:
        raise InputError(
            f"{source}: holds {_summary(place.table)}; {len(missing)} of the {len(names)} tensors that {name} wants "
            f"are not there: {_some(missing)}"
        )
    others = place.others(root)
    if others:
        raise InputError(
            f"{source}: of another model: {len(others)} of its tensors are none of {name}, {_some(others)}"
        )
    return {key: place.read(key) for key in there}


def _refuse_shapes(weights: Tensors, wanted: Tensors, *, source: Path, name: str, resize: Resize) -> None:
    def refuse(keys: list[str]) -> None:
        for key in keys:
            found, asked = weights[key], wanted[key]
            if found.shape != asked.shape:
                sizes = f"{list(found.shape)} in the file, {name} wants {list(asked.shape)}"
                raise InputError(f"{source}: '{key}' is {sizes}; the weights are of another model")
            if asked.is_floating_point() and not found.is_floating_point():
                raise InputError(f"{source}: '{key}' is of type {found.dtype}; floating-point weights are needed")

    refuse([key for key in weights if key not in _POSITIONS])
    if all(weights[key].shape[1:] == wanted[key].shape[1:] for key in _POSITIONS if key in weights):
        resize(weights)
    refuse([key for key in _POSITIONS if key in weights])


def refuse_non_finite(model: nn.Module, *, source: str) -> None:
    """Raise InputError, with its name, for a tensor of ``model`` that holds NaN or infinity."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum())):
            continue
        # A sum of finite values may be infinite, too.
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise InputError(
                f"{source}: {bad} of the {tensor.numel()} values of '{name}' are not finite; the weights are damaged, "
                "or of a training that diverged"
            )


def _notes(place: Place, source: Path) -> tuple[str, ...]:
    left = place.outside()
    others = [prefix.rpartition(CONTAINER)[0] for prefix in place.rivals]
    used = place.prefix.rpartition(CONTAINER)[0]
    return (
        *((f"{source}: took '{used}'; {_some(others)} has the same tensors",) if others else ()),
        *((f"{source}: took CLIP's weights and left {_some(left)} aside, which will be made anew",) if left else ()),
    )


def _summary(tensors: Tensors) -> str:
    """What a file holds, in words."""
    if not tensors:
        return "no tensor that has a name"
    shown = [f"'{name}' {list(tensor.shape)}" for name, tensor in list(tensors.items())[:MOST_NAMED]]
    return f"{len(tensors)} tensors ({', '.join(shown)}{', ...' if len(tensors) > MOST_NAMED else ''})"


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown
