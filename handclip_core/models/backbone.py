"""CLIP backbones.

A backbone is an image tower (and, if asked for, its text tower) cut into an ordered row of blocks, so that a
strategy can decay learning rates by depth, unfreeze the last n blocks, or cache what the frozen first n blocks make of
an image.
"""

import copy
import hashlib
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from handclip_core.config import Config
from handclip_core.data.framing import Frame, Framing, Interpolation
from handclip_core.errors import InputError
from handclip_core.models.names import CONFIG_FILE, LOCAL_FOLDER, NANO, NANO_FOLDER, TIMM
from handclip_core.models.readout import Readout, ReadoutSettings, pooled
from handclip_core.models.text_tower import TextTower, encode_trimmed, num_cut, text_prefixes
from handclip_core.models.towers.tower import Branches, Stage, Tower
from handclip_core.paths import user_path
from handclip_core.types import Encoded

__all__ = [
    "CONFIG_FILE", "LOCAL_FOLDER", "NANO", "NANO_FOLDER", "RANDOM", "WEIGHTS_FILE", "Backbone", "BackboneSettings",
    "load_backbone",
]  # fmt: skip

WEIGHTS_FILE = "open_clip_model.safetensors"
RANDOM = "random"
_WORD = re.compile(r"[a-z]{5,}</w>")


class BackboneSettings(Config):
    """Which CLIP a strategy starts from."""

    name: str = NANO
    """``handclip-nano``, a model name of open_clip (``ViT-B-32``, ``ViT-B-16``, ``RN50``, ...), ``local-dir:FOLDER``
    with a folder that ``pretrain``, open_clip or transformers wrote, or ``timm/MODEL`` for an image tower without a
    text tower (``timm/vit_small_patch14_dinov2``)."""
    pretrained: str | None = None
    """Weights: a tag of open_clip (``openai``) or timm, the path of a file or of a folder with one, or ``random``; none
    for the weights of ``handclip-nano``, of ``local-dir:FOLDER``, and of timm if they are the only ones. A run's
    ``handclip_best.pth`` goes on from that run. Plain weights that come from OpenAI's need a name that ends in
    ``-quickgelu``."""
    batch_norm: Literal["fixed", "moving"] = "fixed"
    """Running statistics of batch normalisation (RN50 and its like) in training mode: kept as they were loaded, so that
    a step does not depend on how a batch is shared among devices, or moving with the batches if its block trains."""

    framing: Framing = Framing.SQUASH
    """How images become square: ``squash`` squeezes them whole, ``crop`` takes the middle as CLIP was trained, ``pad``
    fills up the shorter side. Normalisation and interpolation are those of the backbone."""
    recompute: bool = False
    """Whether training keeps the input of each block alone and computes the rest again for the gradient (gradient
    checkpointing, Chen 2016, arXiv 1604.06174): less memory, a third more time, the same gradients."""

    image_px: int | None = Field(None, ge=16, le=4096)
    """Width and height of the images that an image tower of timm (``timm/MODEL``) sees; its positions are resized to
    them. None for what it was trained with, which is 518 of DINOv2. Other backbones have one size alone."""

    @model_validator(mode="after")
    def _size_is_free(self) -> Self:
        if self.image_px is not None and not self.images_only:
            raise ValueError(f"image_px: {self.name} has one size alone; leave it out, or choose {TIMM}MODEL")
        return self

    @property
    def images_only(self) -> bool:
        """Whether there is no text tower: none can be read, and no class by its name."""
        return self.name.startswith(TIMM)

    @model_validator(mode="after")
    def _statistics_move_once(self) -> Self:
        if self.recompute and self.batch_norm == "moving":
            raise ValueError("recompute: would move the statistics of batch_norm twice a step; set batch_norm: fixed")
        return self

    @field_validator("name", "pretrained")
    @classmethod
    def _home_and_variables_put_in(cls, given: str | None) -> str | None:
        prefix = LOCAL_FOLDER if given and given.startswith(LOCAL_FOLDER) else ""
        path = (given or "").removeprefix(prefix)
        return f"{prefix}{user_path(path)}" if prefix or path.startswith(("~", "$")) else given


class Backbone(nn.Module):
    """A CLIP with its image tower cut into blocks.

    ``visual`` and ``text`` are open_clip's modules under open_clip's parameter names. For a vision transformer
    ``features`` is the pooled token after the final norm (F = width of the tower); for a ModifiedResNet it is the mean
    over the last stage's map (F = 2048 for RN50), and ``projected`` is the attention pool's output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: Any, settings: BackboneSettings, tower: Tower, tokenizer: Any | None) -> None:
        """Take the image tower of ``clip``, open_clip's CustomTextCLIP, and with a ``tokenizer`` its text tower.

        ``tower`` says how the image tower falls into blocks.
        """
        super().__init__()
        name = settings.name
        self.name = name
        self.recompute = settings.recompute
        wanted = getattr(clip.visual, "preprocess_cfg", {})
        smooth: Interpolation = "bilinear" if wanted.get("interpolation") == "bilinear" else "bicubic"
        self.frame = Frame(settings.framing, smooth, wanted.get("fill_color", 0))
        self.notes: tuple[str, ...] = ()
        self.batch_norm = settings.batch_norm
        self.visual: nn.Module = clip.visual
        self._tower = tower
        self.image_px = _square(clip.visual.image_size, name)
        self.width = self._tower.width(clip.visual)
        self.dim = self._tower.dim(clip.visual)
        self.register_buffer("mean", torch.tensor(clip.visual.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(clip.visual.image_std).view(3, 1, 1), persistent=False)
        self.text: nn.Module | None = None if tokenizer is None else clip.text
        self.logit_scale: nn.Parameter | None = None if tokenizer is None else clip.logit_scale
        self._tokenizer = tokenizer

    def forward(self, pixels: Tensor, readout: Readout | None = None) -> Encoded:
        """Encode ``pixels`` [B, 3, H, W], float in [0, 1] with H = W = ``image_px``."""
        return self.tail_blocks(pixels, 0, readout=readout)

    @property
    def num_weights(self) -> int:
        """Weights of the image tower."""
        return sum(parameter.numel() for parameter in self.visual.parameters())

    def blocks(self) -> tuple[tuple[str, ...], ...]:
        """Parameter prefixes of each block from input to output: stem, blocks, (final norm,) projection.

        Every parameter of ``visual`` lies under exactly one prefix of exactly one block.
        """
        return tuple(tuple(f"visual.{name}" for name in names) for names in self._tower.prefixes(self.visual))

    def branches(self) -> list[Branches]:
        """The residual blocks of a transformer, input first."""
        return self._tower.branches(self.visual)

    def stages(self) -> list[Stage]:
        """The stages of a convolutional tower, input first."""
        return self._tower.stages(self.visual)

    def head_blocks(self, pixels: Tensor, n: int) -> Tensor:
        """What the first ``n`` blocks make of ``pixels`` [B, 3, H, W], from 0 to all blocks but one."""
        hidden = pixels
        for step in self._steps()[: self._boundary(n)]:
            hidden = step(hidden)
        return hidden

    def tail_blocks(self, activations: Tensor, n: int, *, readout: Readout | None = None) -> Encoded:
        """The rest after ``n`` blocks: ``tail_blocks(head_blocks(x, n), n)`` equals ``forward(x)`` bit by bit.

        With a ``readout``, whose first block is no earlier, what it reads is there too.
        """
        hidden, wanted = activations, readout.blocks if readout else ()
        assert all(block >= n for block in wanted), "a block that is read was left out"
        read = [self._read(readout, hidden)] if readout and n in wanted else []
        for done, step in enumerate(self._steps()[self._boundary(n) :], start=n + 1):
            again = self.recompute and self.training and torch.is_grad_enabled()
            hidden = checkpoint(step, hidden, use_reentrant=False) if again else step(hidden)
            if readout and done in wanted:
                read.append(self._read(readout, hidden))
        encoded = self._tower.last_block(self.visual, hidden)
        return Encoded(encoded.features, encoded.projected, torch.cat(read, dim=1)) if read else encoded

    @torch.no_grad()
    def readout(self, settings: ReadoutSettings) -> Readout:
        """What ``settings`` read of this architecture."""
        num = self._tower.num_maps(self.visual)
        blocks = tuple(sorted({max(1, round(depth * num)) for depth in settings.depths}))
        was, shown = self.training, torch.zeros(1, 3, self.image_px, self.image_px).to(self.mean)
        self.eval()
        hidden = [self.head_blocks(shown, block) for block in blocks]
        self.train(was)
        vectors = {
            f"block {block}, {name}": vector.shape[1]
            for block, one in zip(blocks, hidden, strict=True)
            for name, vector in pooled(self._tower.feature_map(self.visual, one), settings).items()
        }
        return Readout(settings, blocks, tuple(vectors), tuple(vectors.values()))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected text embeddings [B, D], not normalised, of ``tokens`` [B, context] from ``tokenize``."""
        assert self.text is not None, "load_backbone(..., text=True) keeps the text tower"
        return encode_trimmed(self.text, tokens)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids [len(texts), context] int64."""
        assert self._tokenizer is not None, "load_backbone(..., text=True) keeps the tokenizer"
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens

    def num_cut(self, texts: Sequence[str]) -> int:
        """How many of ``texts`` have more tokens than the text tower reads; ``tokenize`` ends them early."""
        assert self._tokenizer is not None, "load_backbone(..., text=True) keeps the tokenizer"
        return num_cut(self._tokenizer, texts)

    def text_blocks(self) -> tuple[tuple[str, ...], ...]:
        """As ``blocks`` for the text tower: embeddings, blocks, final norm, projection."""
        assert self.text is not None, "load_backbone(..., text=True) keeps the text tower"
        return tuple(tuple(f"text.{name}" for name in names) for names in text_prefixes(self.text))

    def copy(self) -> Self:
        """The same with weights of its own; the tokenizer, which takes longest to copy and never changes, is shared."""
        return copy.deepcopy(self, {id(self._tokenizer): self._tokenizer})

    def release_text(self) -> TextTower:
        """The text tower, frozen; from now on it is no part of this module."""
        assert self._tokenizer is not None, "load_backbone(..., text=True) keeps the tokenizer"
        text, temperature = self.text, self.temperature
        self.text = self.logit_scale = None
        return TextTower(text, name=self.name, tokenize=self._tokenizer, temperature=temperature)

    @property
    def temperature(self) -> float:
        """What the towers were trained to divide the cosines of images and texts by."""
        assert self.logit_scale is not None, "load_backbone(..., text=True) keeps the text tower"
        return 1 / self.logit_scale.exp().item()

    def words(self) -> tuple[str, ...]:
        """Words of five letters or more that are one token each, in the order of the vocabulary."""
        assert self._tokenizer is not None, "load_backbone(..., text=True) keeps the tokenizer"
        return tuple(word.removesuffix("</w>") for word in self._tokenizer.encoder if _WORD.fullmatch(word))

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for what makes blocks without trained weights give another result each time.

        That is batch normalisation, which stays in evaluation mode wherever its statistics are fixed, and leaving out
        patches, units or whole branches.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(mode and self.batch_norm == "moving" and module.weight.requires_grad)
        for depth, prefixes in enumerate(self.blocks()):
            parts = [operator.attrgetter(prefix)(self) for prefix in prefixes]
            if not any(weights.requires_grad for part in parts for weights in _weights_of_part(part)):
                dropping = [getattr(self.visual, "patch_dropout", None)] if depth == 0 else []
                for leaf in (leaf for part in (*parts, *dropping) for leaf in _leaves(part)):
                    leaf.eval()
        return self

    def key(self) -> str:
        """A hash of name, normalisation and present weights (32 hex digits), for naming caches."""
        digest = hashlib.sha256(self.name.encode())
        tensors = {**self.state_dict(), "mean": self.mean, "std": self.std}
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]

    def _read(self, readout: Readout, hidden: Tensor) -> Tensor:
        return readout.pooled(self._tower.feature_map(self.visual, hidden))

    def _steps(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        stem, *rest = self._tower.steps(self.visual)
        return (lambda pixels: stem(((pixels - self.mean) / self.std).to(self.mean.dtype)), *rest)

    def _boundary(self, n: int) -> int:
        last = len(self.blocks()) - 1
        if not 0 <= n <= last:
            raise ValueError(f"{self.name}: cut after {n} blocks, possible are 0 to {last}")
        return n


def load_backbone(settings: BackboneSettings, *, text: bool = False) -> Backbone:
    """The CLIP that ``settings`` name, in float32 and evaluation mode, with its text tower if ``text``.

    Weights trained with QuickGELU (OpenAI's) get it. Leaves the global random state alone; ``random`` weights are
    always the same. Raises InputError, saying what to do, for an unknown name or tag, weights that cannot be fetched,
    a file that is missing, damaged or of another model, and weights that are not finite.
    """
    from handclip_core.models.loading import load  # what handles settings alone does not wait for open_clip

    return load(settings, text=text)


def _weights_of_part(part: nn.Module | nn.Parameter) -> Iterator[nn.Parameter]:
    return part.parameters() if isinstance(part, nn.Module) else iter((part,))


def _leaves(part: nn.Module | nn.Parameter | None) -> Iterator[nn.Module]:
    """Modules without modules in them."""
    if isinstance(part, nn.Module):
        yield from (module for module in part.modules() if not any(True for _ in module.children()))


def _square(size: int | tuple[int, int], name: str) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InputError(f"backbone.name: {name} wants {height}x{width} images; choose a model with square ones")
    return height
