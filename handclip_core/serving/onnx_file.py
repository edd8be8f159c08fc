"""An image tower as one ONNX file: pixels in, unit vectors out."""

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handclip_core.documents import shortened
from handclip_core.errors import InputError
from handclip_core.models.hand_model import HandModel
from handclip_core.serving.embeddings import optional
from handclip_core.serving.model import ServedModel
from handclip_core.types import ASPECT_INDEX, Aspect

IMAGES, VIEWS, EMBEDDINGS = "images", "views", "embeddings"
ABOUT = "handclip"
"""Key of the metadata that say how images become inputs, and what scores mean."""
BATCHES = (1, 2, 17)
"""Sizes at which the file is held against this model."""
TOLERANCE = 1e-4
OPSET = 18


class _Tower(nn.Module):
    """From uint8 images [B, S, S, 3] to unit vectors [B, W]; ``views`` [B] are aspects by ASPECT_INDEX."""

    def __init__(self, model: HandModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float() / 255
        return F.normalize(self.model.metric(self.model.static_vectors(pixels, views)).float(), dim=1)


class _Unasked(_Tower):
    """The same for a model to which views make no difference."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(images, torch.full((1,), ASPECT_INDEX[Aspect.UNKNOWN]))


class _Affine(nn.Module):
    """What a batch norm of vectors computes in evaluation mode; ONNX's wants to know the width when it is traced."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.detach()
        self.scale = scale
        self.shift = (0 if norm.bias is None else norm.bias.detach()) - norm.running_mean * scale

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors * self.scale + self.shift


def _without_norms_of_vectors(model: HandModel) -> HandModel:
    """A copy of ``model``, in evaluation mode, for a traced graph."""
    plain = copy.deepcopy(model).eval()
    for name, module in list(plain.named_modules()):
        if isinstance(module, nn.BatchNorm1d):
            plain.set_submodule(name, _Affine(module))
    return plain


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by operators that ONNX has, not by torch's fused one."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def write_onnx(served: ServedModel, path: Path) -> str:
    """Write ``path`` with what it needs to be used in its metadata; says in a line how far it was checked.

    Raises InputError if the package onnx is missing, the model reads an image in several forms, or the file and this
    model differ by more than TOLERANCE.
    """
    onnx: Any = optional("onnx", "exporting to ONNX")
    if len(served.forms) > 1:
        forms = " and ".join(f"{form.size_px} px by {form.frame.framing}" for form in served.forms)
        raise InputError(f"onnx: one file reads one input, and the ensemble's members read {forms}; export each member")
    size, views = served.size_px, served.model.tells_aspects
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    given = (images, torch.zeros(2, dtype=torch.int64)) if views else (images,)
    names = [IMAGES, VIEWS][: len(given)]
    axes = {name: {0: "batch"} for name in (*names, EMBEDDINGS)}
    tower = (_Tower if views else _Unasked)(_without_norms_of_vectors(served.model))
    with warnings.catch_warnings(), torch.no_grad(), _plain_attention():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                tower, given, str(path), input_names=names, output_names=[EMBEDDINGS], dynamic_axes=axes,
                opset_version=OPSET, dynamo=False,
            )  # fmt: skip
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            raise InputError(f"onnx: this model computes what a graph cannot hold ({shortened(why, 200)})") from None
    written = onnx.load(str(path))
    entry = written.metadata_props.add()
    entry.key, entry.value = ABOUT, json.dumps(about(served))
    onnx.save(written, str(path))
    return _checked(served, path)


def about(served: ServedModel) -> dict[str, Any]:
    """How images become inputs of an exported tower, and what its scores mean."""
    frame = served.frame
    return {
        "model": served.hash,
        "size_px": served.size_px,
        "framing": frame.framing.value,
        "interpolation": frame.interpolation,
        "fill": frame.fill,
        "width": served.width,
        "views": {aspect.value: index for aspect, index in ASPECT_INDEX.items()} if served.model.tells_aspects else {},
        "thresholds": [point.model_dump() for point in served.validation.thresholds.points],
    }


def _checked(served: ServedModel, path: Path) -> str:
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        return "not checked: onnxruntime is not installed (pip install onnxruntime)"
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random, worst = np.random.default_rng(0), 0.0
    for batch in BATCHES:
        images = random.integers(0, 256, (batch, served.size_px, served.size_px, 3), np.uint8)
        given = {IMAGES: images}
        if served.model.tells_aspects:
            given[VIEWS] = np.full(batch, ASPECT_INDEX[Aspect.UNKNOWN], np.int64)
        worst = max(worst, float(np.abs(session.run(None, given)[0] - served.embed_squares(images)).max()))
    if not worst <= TOLERANCE:
        raise InputError(f"{path}: embeddings differ by {worst:.1e} from this model's, more than {TOLERANCE:g}")
    return f"embeddings differ by {worst:.1e} at most from this model's, at batches of {', '.join(map(str, BATCHES))}"
