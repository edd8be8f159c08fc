"""CLIP backbones: the one place that imports open_clip.

A backbone is an image tower (and, if asked for, its text tower) cut into an ordered row of blocks, so that a
strategy can decay learning rates by depth, unfreeze the last n blocks, or cache what the frozen first n blocks make of
an image.
"""

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import TextTransformer, VisionTransformer
from pydantic import field_validator
from torch import Tensor, nn

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.models.readout import Readout, ReadoutSettings, pooled
from handclip_core.models.text_tower import TextTower, encode_trimmed
from handclip_core.models.towers import ResNetTower, TransformerTower
from handclip_core.models.weight_files import UNREADABLE, is_torchscript, one_line, quiet_logs
from handclip_core.paths import user_path
from handclip_core.types import Encoded

NANO = "handclip-nano"
"""The small CLIP that comes with the package."""

NANO_FOLDER = Path(__file__).parent / "nano"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
LOCAL_FOLDER = "local-dir:"
RANDOM = "random"
INITIAL_SEED = 0
_WORD = re.compile(r"[a-z]{5,}</w>")


class BackboneSettings(Config):
    """Which CLIP a strategy starts from."""

    name: str = NANO
    """``handclip-nano``, a model name of open_clip (``ViT-B-32``, ``ViT-B-16``, ``RN50``, ...), or ``local-dir:FOLDER``
    with a folder that ``pretrain`` wrote."""
    pretrained: str | None = None
    """Weights: a tag of open_clip (``openai``), the path of a file, or ``random``; none for the weights of
    ``handclip-nano`` and of ``local-dir:FOLDER``. A file that holds OpenAI's weights needs a name that ends in
    ``-quickgelu``, unless it is their original archive."""
    batch_norm: Literal["fixed", "moving"] = "fixed"
    """Running statistics of batch normalisation (RN50 and its like) in training mode: kept as they were loaded, so that
    a step does not depend on how a batch is shared among devices, or moving with the batches if its block trains."""

    @field_validator("name", "pretrained")
    @classmethod
    def _home_and_variables_put_in(cls, given: str | None) -> str | None:
        prefix = LOCAL_FOLDER if given and given.startswith(LOCAL_FOLDER) else ""
        path = (given or "").removeprefix(prefix)
        return f"{prefix}{user_path(path)}" if path.startswith(("~", "$")) else given


class Backbone(nn.Module):
    """A CLIP with its image tower cut into blocks.

    ``visual`` and ``text`` are open_clip's modules under open_clip's parameter names. For a vision transformer
    ``features`` is the pooled token after the final norm (F = width of the tower); for a ModifiedResNet it is the mean
    over the last stage's map (F = 2048 for RN50), and ``projected`` is the attention pool's output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: Any, *, name: str, text: bool, batch_norm: Literal["fixed", "moving"] = "fixed") -> None:
        """Take the towers of ``clip``, open_clip's CustomTextCLIP; raises InputError for an unknown kind of tower."""
        super().__init__()
        self.name = name
        self.batch_norm = batch_norm
        self.visual: nn.Module = clip.visual
        self._tower = _tower_of(clip.visual, name)
        self.image_px = _square(clip.visual.image_size, name)
        self.width = self._tower.width(clip.visual)
        self.dim = int(clip.visual.output_dim)
        self.register_buffer("mean", torch.tensor(clip.visual.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(clip.visual.image_std).view(3, 1, 1), persistent=False)
        self.text: nn.Module | None = clip.text if text else None
        self.logit_scale: nn.Parameter | None = clip.logit_scale if text else None
        self._tokenizer: Any = _tokenizer(name, clip.text) if text else None

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
            hidden = step(hidden)
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
        widths = (pooled(self._tower.feature_map(self.visual, one), settings).shape[1] for one in hidden)
        return Readout(settings, blocks, tuple(widths))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected text embeddings [B, D], not normalised, of ``tokens`` [B, context] from ``tokenize``."""
        assert self.text is not None, "load_backbone(..., text=True) keeps the text tower"
        return encode_trimmed(self.text, tokens)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids [len(texts), context] int64."""
        assert self._tokenizer is not None, "load_backbone(..., text=True) keeps the tokenizer"
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens

    def copy(self) -> Self:
        """The same with weights of its own; the tokenizer, which takes longest to copy and never changes, is shared."""
        return copy.deepcopy(self, {id(self._tokenizer): self._tokenizer})

    def release_text(self) -> TextTower:
        """The text tower, frozen; from now on it is no part of this module."""
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
        patches.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(mode and self.batch_norm == "moving" and module.weight.requires_grad)
        dropping = getattr(self.visual, "patch_dropout", None)
        if isinstance(dropping, nn.Module):
            dropping.train(mode and any(p.requires_grad for p in self.visual.get_submodule("conv1").parameters()))
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


def _tower_of(visual: nn.Module, name: str) -> TransformerTower | ResNetTower:
    if isinstance(visual, VisionTransformer) and visual.pool_type != "none":
        return TransformerTower()
    if isinstance(visual, ModifiedResNet):
        return ResNetTower()
    kind = type(visual).__name__
    raise InputError(f"backbone.name: {name} has an image tower of kind {kind}; choose a ViT-... or RN... name")


def _square(size: int | tuple[int, int], name: str) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise InputError(f"backbone.name: {name} wants {height}x{width} images; choose a model with square ones")
    return height


def _tokenizer(name: str, text: Any) -> Any:
    if isinstance(text, TextTransformer):
        return open_clip.get_tokenizer(_source(name), context_length=text.context_length)
    raise InputError(
        f"backbone.name: {name} has a text tower of kind {type(text).__name__}; choose a ViT-... or RN... name"
    )


def load_backbone(settings: BackboneSettings, *, text: bool = False) -> Backbone:
    """The CLIP that ``settings`` name, in float32 and evaluation mode, with its text tower if ``text``.

    Weights trained with QuickGELU (OpenAI's) get it. Leaves the global random state alone; ``random`` weights are
    always the same. Raises InputError, saying what to do, for an unknown name or tag, weights that cannot be fetched,
    and a file that is missing, damaged or of another model.
    """
    with torch.random.fork_rng(devices=[]), quiet_logs():
        torch.manual_seed(INITIAL_SEED)
        clip = _create(settings)
    backbone = Backbone(clip, name=settings.name, text=text, batch_norm=settings.batch_norm)
    if isinstance(backbone.visual, ModifiedResNet):
        # Convolutions run up to twice as fast with the channels last.
        backbone.visual.to(memory_format=torch.channels_last)
    return backbone.float().eval()


def _create(settings: BackboneSettings) -> Any:
    name, weights = settings.name, settings.pretrained
    folder = _folder(name)
    if folder is None and name not in open_clip.list_models():
        choices = f"{NANO}, {LOCAL_FOLDER}FOLDER or a name of open_clip such as ViT-B-32, ViT-B-16, RN50"
        raise InputError(f"backbone.name: unknown model '{name}'; choose {choices}")
    if weights == RANDOM:
        return _empty(name)
    if weights is None:
        return _from_file(name, _weights_of(name, folder))
    if get_pretrained_cfg(name, weights):
        return _from_tag(name, weights)
    return _from_file(name, _existing(Path(weights), name))


def _folder(name: str) -> Path | None:
    if name == NANO:
        return NANO_FOLDER
    return Path(name.removeprefix(LOCAL_FOLDER)) if name.startswith(LOCAL_FOLDER) else None


def _source(name: str) -> str:
    return f"{LOCAL_FOLDER}{NANO_FOLDER}" if name == NANO else name


def _weights_of(name: str, folder: Path | None) -> Path:
    if folder is None:
        raise InputError(
            f"backbone.pretrained: {name} needs weights: a tag ({_tags(name)}) or the path of a weight file"
        )
    return _existing(folder / WEIGHTS_FILE, name)


def _existing(path: Path, name: str) -> Path:
    if path.is_file():
        return path
    raise InputError(f"backbone.pretrained: '{path}' is neither a file nor a tag of {name} ({_tags(name)})")


def _tags(name: str) -> str:
    tags = list_pretrained_tags_by_model(name)
    return ", ".join(tags[:3] + ["..."] * (len(tags) > 3)) or "it has none"


def _empty(name: str, *, quick_gelu: bool = False) -> Any:
    try:
        return open_clip.create_model(
            _source(name),
            load_weights=False,
            force_custom_text=True,
            force_quick_gelu=quick_gelu,
            pretrained_text=False,
        )
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"backbone.name: {name} has no usable {CONFIG_FILE}: {one_line(error)}") from None


def _from_tag(name: str, tag: str) -> Any:
    quick_gelu = bool(get_pretrained_cfg(name, tag).get("quick_gelu", False))
    try:
        return open_clip.create_model(
            name, pretrained=tag, require_pretrained=True, force_custom_text=True, force_quick_gelu=quick_gelu
        )
    except UNREADABLE as error:
        mend = "connect to the network, or copy the weight file here and give its path as backbone.pretrained"
        raise InputError(f"backbone.pretrained: no weights '{tag}' of {name}: {mend} ({one_line(error)})") from None


def _from_file(name: str, path: Path) -> Any:
    archive = is_torchscript(path)
    clip = _empty(name, quick_gelu=archive)
    try:
        if archive:
            _load_openai_archive(clip, path)
        else:
            load_checkpoint(clip, str(path))
    except UNREADABLE as error:
        reason = one_line(error)
        raise InputError(f"{path}: not a weight file of {name}, or damaged; fetch it again ({reason})") from None
    return clip


def _load_openai_archive(clip: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # TorchScript is deprecated, but these files are published in it.
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    buffers = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    weights = {name: tensor for name, tensor in module.state_dict().items() if name not in buffers}
    clip.load_state_dict(convert_to_custom_text_state_dict(weights))
