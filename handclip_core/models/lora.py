"""Low-rank updates of a tower's linear maps: the one place that imports peft."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.attention import OpenAttention, OpenPool
from handclip_core.models.backbone import Backbone

UPDATE = "default"
"""What peft calls the update in names of parameters."""
FACTORS = ".lora_"
"""Stands in the names of the factors A and B of all updates, and in no others."""

Blocks = Sequence[tuple[str, ...]]
"""Parameter prefixes of each block of a tower, as ``Backbone.blocks`` gives them."""
Model = TypeVar("Model", bound=nn.Module)


class LoraTargets(StrEnum):
    """Which maps get an update.

    Of a transformer, ``attention`` means the projection of every block to query, key and value, which are one map or
    three, and the output projection; ``mlp`` means the layers of its MLP. Of a ResNet, ``attention`` means the four
    projections of the attention pool; ``mlp`` means the three convolutions on the main path of every bottleneck. Of
    another convolutional tower ``mlp`` means the MLPs of its blocks, and ``attention`` is there if some blocks have it.
    """

    ATTENTION = "attention"
    MLP = "mlp"
    BOTH = "both"


@dataclass(frozen=True)
class _Kind:
    """A kind of block, known by the part ``marker``, and its maps."""

    marker: str
    attention: tuple[str, ...] = ()
    mlp: tuple[str, ...] = ()

    def parts(self, targets: LoraTargets) -> tuple[str, ...]:
        if targets is LoraTargets.BOTH:
            return self.attention + self.mlp
        return self.attention if targets is LoraTargets.ATTENTION else self.mlp


_IN_PROJ = "attn.in_proj"
"""Stacked projections, which are a map once attention is opened."""
_KINDS = (
    _Kind("mlp.c_fc", attention=(_IN_PROJ, "attn.out_proj"), mlp=("mlp.c_fc", "mlp.c_proj")),
    # Bottlenecks, and the basic blocks of small ResNets, which have no third one.
    _Kind("conv2", mlp=("conv1", "conv2", "conv3")),
    _Kind("q_proj", attention=("q_proj", "k_proj", "v_proj", "c_proj")),
    # Blocks of timm, and its attention pool, which has the maps q and kv.
    _Kind(
        "mlp.fc2",
        attention=(
            "attn.qkv", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj", "token_mixer.qkv", "token_mixer.proj",
            "q", "kv", "proj",
        ),
        mlp=("mlp.fc1", "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),
    ),
    _Kind("mlp.w2", attention=("attn.qkv", "attn.proj"), mlp=("mlp.w0", "mlp.w1", "mlp.w2")),
)  # fmt: skip


def insert_lora(
    backbone: Backbone,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: LoraTargets,
    last_blocks: int | None,
    towers: Sequence[Blocks] | None = None,
) -> None:
    """Give the ``targets`` of ``backbone`` an update alpha / rank * B A (Hu 2021, arXiv 2106.09685, section 4.1).

    A is [rank, in], random from torch's global generator; B is [out, rank] and starts at zero, so that the backbone
    starts as it was but for how attention rounds. For a convolution A has its kernel, and B is 1 x 1. ``dropout`` acts
    on what A reads. Of the blocks with such maps only the ``last_blocks`` get updates, None for all; a ResNet's pool
    counts as one. ``towers`` are the blocks of each tower that gets updates, the image tower alone if none are given.
    Raises InputError if attention is of a kind that cannot be adapted.
    """
    names = [
        name
        for blocks in towers or (backbone.blocks(),)
        for block in _maps(backbone, blocks, targets)[-(last_blocks or 0) :]
        for name in block
    ]
    if not names:
        raise InputError(f"strategy.targets: {backbone.name} has no maps of {targets}; choose mlp or both")
    for name in names:
        _open_owner(backbone, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Importing peft takes more than a second, which runs of other strategies need not wait for.
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
        inject_adapter_in_model(config, backbone, adapter_name=UPDATE)
    backbone.train(backbone.training)  # New modules are in training mode, whatever they are put into.


def possible_targets(backbone: Backbone) -> tuple[LoraTargets, ...]:
    """The targets with which ``insert_lora`` finds maps in the image tower of ``backbone`` that it can adapt."""

    def fits(targets: LoraTargets) -> bool:
        names = [name for block in _maps(backbone, backbone.blocks(), targets) for name in block]
        return bool(names) and not any(_is_closed(backbone, name) for name in names)

    return tuple(targets for targets in LoraTargets if fits(targets))


def lora_prefixes(backbone: Backbone) -> tuple[str, ...]:
    """Prefixes, within ``backbone``, of the matrices A and B of all updates; ``*`` stands for a block's number."""
    added = (name.removesuffix(f".{UPDATE}.weight") for name, _ in backbone.named_parameters() if FACTORS in name)
    return tuple(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", prefix) for prefix in added))


def has_updates(names: Iterable[str]) -> bool:
    """Whether weights of these ``names`` are those of a model with updates that are not merged."""
    return any(FACTORS in name for name in names)


def merged(model: Model) -> Model:
    """A copy of ``model`` with all updates added to the weights, which have their names of before ``insert_lora``."""
    plain = deepcopy(model)
    if not has_updates(plain.state_dict()):
        return plain
    from peft.tuners.lora import LoraLayer

    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
    for name, module in list(plain.named_modules()):
        if isinstance(module, OpenAttention):
            plain.set_submodule(name, module.closed())
    return plain


def restored(model: Model, state: Mapping[str, Tensor]) -> Model:
    """``model`` with the weights ``state``, or its merged copy with them if they are of a merged model.

    Raises RuntimeError if names or shapes differ.
    """
    host = merged(model) if has_updates(model.state_dict()) and not has_updates(state) else model
    host.load_state_dict(state)
    return host


def _maps(backbone: Backbone, blocks: Blocks, targets: LoraTargets) -> list[list[str]]:
    """Names of the maps to adapt, in one list a block that has any, input first."""
    there = {name for name, _ in backbone.named_modules()}
    maps = (
        [
            f"{block}.{part}"
            for kind in _KINDS
            if f"{block}.{kind.marker}" in there
            for part in kind.parts(targets)
            if f"{block}.{part}" in there or part == _IN_PROJ
        ]
        for prefixes in blocks
        for block in prefixes
    )
    return [names for names in maps if names]


def _is_closed(backbone: Backbone, name: str) -> bool:
    """Whether the map ``name`` is stacked in attention of a kind that cannot be opened."""
    owner, _, part = name.rpartition(".")
    return part == "in_proj" and not isinstance(backbone.get_submodule(owner), nn.MultiheadAttention)


def _open_owner(backbone: Backbone, name: str) -> None:
    """Replace the owner of the map ``name`` if it does not call it as a module."""
    owner, _, part = name.rpartition(".")
    module = backbone.get_submodule(owner)
    if part == "q_proj" and hasattr(module, "c_proj"):
        backbone.set_submodule(owner, OpenPool(module))
    if part == "qkv" and hasattr(module, "qkv_bias_separate"):
        # timm's EVA reads the weights of this map, unless its bias is to be added later.
        module.qkv_bias_separate = True  # type: ignore[assignment]
    if part == "in_proj":
        if _is_closed(backbone, name):
            kind = type(module).__name__
            raise InputError(f"strategy.targets: {backbone.name} has attention of kind {kind}; choose mlp")
        assert isinstance(module, nn.MultiheadAttention)
        backbone.set_submodule(owner, OpenAttention(module))
