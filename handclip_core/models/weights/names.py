"""Where a model's tensors are in a file of weights, under whatever names it has them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from handclip_core.models.weights.files import CONTAINER, Tensors

TOWER, TEXT = "visual.", "text."
"""What the names of an image tower and of a text tower begin with in open_clip's CustomTextCLIP."""
TRUNK = "visual.trunk."
"""What they begin with in an image tower that timm has."""
_WRAPPERS = ("module", "_orig_mod")
"""Parts of a name that data parallelism and torch.compile add anywhere."""


@dataclass(frozen=True)
class Source:
    """Where a tensor is in a file: the rows of those called ``names``, one after another, perhaps transposed."""

    names: tuple[str, ...]
    transposed: bool = False


Naming = Mapping[str, Source]
"""For every name of a model's tensors, where another library or version keeps it."""


@dataclass(frozen=True)
class Place:
    """The names of a model in a file: ``naming`` behind ``prefix``; ``table`` is what stands there, without it."""

    prefix: str
    naming: Naming
    table: Tensors
    rivals: tuple[str, ...]
    """Other prefixes with as many of the model's tensors."""
    beside: tuple[str, ...]
    """First parts of the names of float tensors of the same mapping that do not stand behind the prefix."""

    def has(self, name: str) -> bool:
        """Whether the file holds all of the tensor ``name``."""
        return name in self.naming and all(part in self.table for part in self.naming[name].names)

    def read(self, name: str) -> Tensor:
        """The tensor ``name``."""
        source = self.naming[name]
        parts = [self.table[part] for part in source.names]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        return tensor.t() if source.transposed and tensor.ndim == 2 else tensor

    def others(self, root: str) -> list[str]:
        """Names of float tensors in the tower ``root`` of the file that are none of the model's."""
        used = {part for source in self.naming.values() for part in source.names}
        tower = {source.names[0].split(".")[0] for name, source in self.naming.items() if name.startswith(root)}
        floats = (name for name, tensor in self.table.items() if tensor.is_floating_point())
        return [name for name in floats if name not in used and name.split(".")[0] in tower]

    def outside(self) -> list[str]:
        """First parts of the names of float tensors that belong to neither tower, in the file's order."""
        known = {part.split(".")[0] for source in self.naming.values() for part in source.names}
        floats = (name.split(".")[0] for name, tensor in self.table.items() if tensor.is_floating_point())
        return [*(name for name in dict.fromkeys(floats) if name not in known), *self.beside]


def find(tensors: Tensors, wanted: Iterable[str]) -> Place | None:
    """Where ``tensors`` have most of the model's tensors ``wanted``, those of the image tower first; None for nowhere.

    Any prefix is found, since what counts is how many names it leaves to be the model's.
    """
    cleaned = {unwrapped(name): tensor for name, tensor in tensors.items()}
    votes = [
        (hits, naming, prefix)
        for naming in namings(tuple(wanted))
        for prefix, hits in _votes(cleaned, naming).items()
        if hits[0]
    ]
    if not votes:
        return None
    best = max(votes, key=lambda vote: vote[0])
    hits, naming, prefix = best
    rivals = tuple(other for count, same, other in votes if same is naming and count == hits and other != prefix)
    container = prefix[: prefix.rfind(CONTAINER) + 1]
    inside = {name: tensor for name, tensor in cleaned.items() if name.rpartition(CONTAINER)[0] == container[:-1]}
    table = {name.removeprefix(prefix): tensor for name, tensor in inside.items() if name.startswith(prefix)}
    beside = dict.fromkeys(
        name.removeprefix(container).split(".")[0]
        for name, tensor in inside.items()
        if not name.startswith(prefix) and tensor.is_floating_point()
    )
    return Place(prefix, naming, table, rivals, tuple(beside))


def namings(wanted: tuple[str, ...]) -> tuple[Naming, ...]:
    """How files may call the tensors ``wanted`` of a CustomTextCLIP of open_clip.

    As such; as open_clip's CLIP and OpenAI, whose text tower has no prefix; the image tower alone; as timm has it; as
    ``CLIPModel`` of transformers; and as its image tower alone.
    """
    same = {name: Source((name,)) for name in wanted}
    plain = {name: Source((name.removeprefix(TEXT),)) for name in wanted}
    tower = {name: Source((name.removeprefix(TOWER),)) for name in wanted if name.startswith(TOWER)}
    trunk = {name: Source((name.removeprefix(TRUNK),)) for name in wanted if name.startswith(TRUNK)}
    hugging = {name: source for name in wanted if (source := _hugging_face(name))}
    vision = {
        name: Source(tuple(part.removeprefix("vision_model.") for part in source.names), source.transposed)
        for name, source in hugging.items()
        if name.startswith(TOWER)
    }
    return same, plain, tower, trunk, hugging, vision


def unwrapped(name: str) -> str:
    """A tensor's name without what data parallelism and torch.compile add."""
    container, mark, rest = name.rpartition(CONTAINER)
    return container + mark + ".".join(part for part in rest.split(".") if part not in _WRAPPERS)


def _votes(tensors: Tensors, naming: Naming) -> dict[str, tuple[int, int]]:
    """For every prefix, how many names of the image tower, and how many of all, stand behind it."""
    known = {part: name.startswith(TOWER) for name, source in naming.items() for part in source.names}
    tower: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for name in tensors:
        rest = name.rpartition(CONTAINER)[2]
        while rest:
            if rest in known:
                prefix = name.removesuffix(rest)
                whole[prefix] += 1
                tower[prefix] += known[rest]
            rest = rest.partition(".")[2]
    return {prefix: (tower[prefix], count) for prefix, count in whole.items()}


_TOWERS = {TOWER: "vision_model.", TEXT: "text_model."}
_HUGGING_FACE: tuple[tuple[str, str], ...] = (
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding"),
    (r"visual\.conv1\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"visual\.ln_pre\.(\w+)", r"vision_model.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(\w+)", r"vision_model.post_layernorm.\1"),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"text\.positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"text\.token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    (r"text\.ln_final\.(\w+)", r"text_model.final_layer_norm.\1"),
    (r"logit_scale", "logit_scale"),
)
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text.text_projection": "text_projection.weight"}
_RESIDUAL = re.compile(r"(visual\.|text\.)transformer\.resblocks\.(\d+)\.(.+)")
_IN_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def _hugging_face(name: str) -> Source | None:
    """Where transformers' ``CLIPModel`` keeps a tensor of open_clip's; None for what it does not have."""
    if name in _PROJECTIONS:
        return Source((_PROJECTIONS[name],), transposed=True)
    for pattern, theirs in _HUGGING_FACE:
        match = re.fullmatch(pattern, name)
        if match:
            return Source((match.expand(theirs),))
    block = _RESIDUAL.fullmatch(name)
    if not block:
        return None
    owner = f"{_TOWERS[block[1]]}encoder.layers.{block[2]}."
    if block[3].startswith("attn.in_proj_"):
        kind = block[3].removeprefix("attn.in_proj_")
        return Source(tuple(f"{owner}self_attn.{part}_proj.{kind}" for part in "qkv"))
    part, _, kind = block[3].rpartition(".")
    return Source((f"{owner}{_IN_BLOCK.get(part, part.replace('attn', 'self_attn'))}.{kind}",))
