"""What stands beside weights and says how they were made: the config.json of a run or of a model of transformers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.models.weights.files import Tensors
from handclip_core.models.weights.hugging_face import VISION_ALONE

CONFIG = "config.json"
PREPROCESSING = "preprocessor_config.json"
OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")
"""In OpenAI's archives, and in state dicts taken from them."""
_LORA = (".lora_A.", ".lora_B.")
_INNER = (".base_layer.weight", ".base_layer.bias")


@dataclass(frozen=True)
class Origin:
    """How weights were made, as far as ``config`` says it; empty if there is none."""

    config: dict[str, Any]

    @property
    def is_clip_of_transformers(self) -> bool:
        """Whether the file is that of a CLIP, or of its image tower, which transformers saved."""
        return isinstance(self.config.get("vision_config"), dict) or self.config.get("model_type") == VISION_ALONE

    @property
    def quick_gelu(self) -> bool | None:
        """Whether transformers computes QuickGELU for these weights; None if it does not say."""
        if not str(self.config.get("model_type")).startswith("clip"):
            return None
        vision = self.config.get("vision_config", self.config)
        return bool(vision.get("hidden_act", "quick_gelu") == "quick_gelu")

    @property
    def backbone(self) -> dict[str, Any] | None:
        """The backbone's settings if the weights are those of a run of this project."""
        found = self.config.get("backbone")
        return found if isinstance(found, dict) and "strategy" in self.config else None

    @property
    def alpha(self) -> float | None:
        """Strength of low-rank updates."""
        strategy = self.config.get("strategy")
        found = strategy.get("alpha") if isinstance(strategy, dict) else None
        return float(found) if isinstance(found, int | float) else None


def origin_of(path: Path) -> Origin:
    """What the config.json in the folder ``path``, or beside the file ``path``, says."""
    folder = path if path.is_dir() else path.parent
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Origin({})
    return Origin(found if isinstance(found, dict) else {})


def merged_updates(tensors: Tensors, *, alpha: float | None, source: Path) -> Tensors:
    """``tensors`` with all low-rank updates alpha / rank * B A added to the weights that they change.

    Raises InputError if ``alpha`` is not known, or an update has no weight.
    """
    factors = [name for name in tensors if _LORA[0] in name]
    if not factors:
        return tensors
    if alpha is None:
        raise InputError(
            f"{source}: holds low-rank updates, whose strength is in their run's {CONFIG}; put that file beside it"
        )
    merged = {_plain(name): tensor for name, tensor in tensors.items() if not any(part in name for part in _LORA)}
    for name in factors:
        owner = name.split(_LORA[0])[0]
        base = tensors.get(f"{owner}{_INNER[0]}")
        if base is None:
            raise InputError(f"{source}: holds low-rank updates alone, without the weights of {owner}")
        a, b = tensors[name].float(), tensors[name.replace(*_LORA)].float()
        merged[_plain(f"{owner}{_INNER[0]}")] = base.float() + alpha / a.shape[0] * _product(b, a)
    return merged


def _product(b: Tensor, a: Tensor) -> Tensor:
    """B A for factors [out, rank, ...] and [rank, in, ...]; a convolution's kernel belongs to A."""
    return torch.einsum("or,ri...->oi...", b.flatten(1), a)


def _plain(name: str) -> str:
    """The name of a weight before low-rank updates were put around it."""
    for inner in _INNER:
        if name.endswith(inner):
            name = name.removesuffix(inner) + inner.removeprefix(".base_layer")
    for kind in ("weight", "bias"):
        name = name.replace(f".attn.in_proj.{kind}", f".attn.in_proj_{kind}")
    return name
