"""Weight files as they come: every tensor that one holds, by name, read without running code of the file."""

import json
import logging
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.models.weights.torchscript import is_torchscript, read_torchscript
from handclip_core.paths import plain_file

Tensors = dict[str, Tensor]

UNREADABLE = (
    RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, StopIteration, IndexError,
    AssertionError, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip
"""What torch, safetensors and open_clip raise for a file that does not hold this model's weights."""

IN_FOLDER = (
    "handclip_best.pth", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors",
    "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
"""Where the weights of a folder are: of a run, of open_clip, of Hugging Face; the first that is there."""
INDEX = ".index.json"
CONTAINER = "/"
"""Stands in a tensor's name behind the key of each mapping around the one that holds it."""
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_REASON, _ADVICE = "WeightsUnpickler error: ", "Check the documentation"
_NOT_WEIGHTS = {b"version https://git-lfs": "a pointer of Git LFS: run `git lfs pull`", b"<!doctype": "a web page"}


class Inert:
    """Stands for an object of any class beside the weights: keeps its state, runs none of its code."""

    state: Any = None

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Nothing is made of what the class would be given."""
        del args, kwargs
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_tensors(path: Path) -> Tensors:
    """Every tensor in the weight file ``path``, or of the weights in the folder ``path``, by its name there.

    The names are those of state dicts. In front stand the keys of the mappings around one, each with ``CONTAINER``
    behind it. Raises InputError for what is missing, damaged or no weight file.
    """
    file = weights_in(path)
    try:
        if file.name.endswith(INDEX):
            names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
            return {name: tensor for part in names for name, tensor in _read(file.with_name(part)).items()}
        return _read(file)
    except UNREADABLE as error:
        raise InputError(f"{file}: not a weight file, or damaged; fetch it again ({one_line(error)})") from None


def weights_in(path: Path) -> Path:
    """The weight file ``path``, or that in the folder ``path``; raises InputError if there is none."""
    if not path.is_dir():
        return path
    found = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
    if found is None:
        raise InputError(f"{path}: a folder without weights; looked for {', '.join(IN_FOLDER)}")
    return found


def _read(path: Path) -> Tensors:
    plain_file(path)
    with path.open("rb") as file:
        start = file.read(64)
    reason = next((reason for sign, reason in _NOT_WEIGHTS.items() if start.lower().startswith(sign)), None)
    if reason or not start:
        raise ValueError(reason or "empty file (zero bytes)")
    if start[8:9] == b"{":
        plain: Tensors = load_file(path, device="cpu")
        return plain
    if is_torchscript(path):
        return read_torchscript(path)
    content = _torch_load(path)
    found = list(_walk(content))
    _refuse_damaged(path, found)
    return {name: tensor for name, tensor in found if name}


def _torch_load(path: Path) -> Any:
    """The content of a file of torch.save, with everything but tensors and plain containers left inert."""
    other = torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) if zipfile.is_zipfile(path) else []
    try:
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in other]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch puts a page of advice around the line with the reason.
        reason = str(error).partition(_ADVICE)[0].strip().splitlines()[-1]
        raise ValueError(reason.rpartition(_REASON)[2]) from None


def _stand_in(name: str) -> Any:
    """What a pickle gets for the class or function ``name``; torch allows items in an OrderedDict alone."""
    if name == "collections.defaultdict":
        return _empty_dict
    return OrderedDict if name.lower().endswith("dict") else Inert


def _empty_dict(*_: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _walk(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors and their names in the order in which torch.save wrote them; no name for what no mapping names."""
    if isinstance(value, Tensor):
        yield name.removesuffix(CONTAINER).removesuffix("."), value.detach()
    elif isinstance(value, Inert):
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        yield from _walk_module(state, name) if isinstance(state, dict) else ()
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _walk(part, f"{name}{key}{CONTAINER}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _walk(part, f"{name}{place}{CONTAINER}") if isinstance(part, dict) else _unnamed(part)


def _unnamed(value: Any) -> Iterator[tuple[str, Tensor]]:
    return (("", tensor) for _, tensor in _walk(value))


def _walk_module(state: dict[Any, Any], name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a pickled module, by the names of its state dict."""
    for key, part in state.items():
        if key in _MODULE_PARTS and isinstance(part, dict):
            yield from (item for inner, one in part.items() for item in _walk(one, f"{name}{inner}."))
        else:
            yield from _walk(part, f"{name}{key}{CONTAINER}")


def _refuse_damaged(path: Path, tensors: list[tuple[str, Tensor]]) -> None:
    """Raise ValueError, with the name of a tensor, if a record of the archive ``path`` is not what was written."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
        if bad is None:
            return
        records = [info for info in archive.infolist() if Path(info.filename).parent.name == "data"]
    named: dict[int, str] = {}
    for name, tensor in tensors:
        named.setdefault(tensor.untyped_storage().data_ptr() or -id(tensor), name)
    # torch.save numbers storages as it meets them; if another count was met here, numbers name nothing.
    at = int(Path(bad).name) if Path(bad).name.isdigit() and len(records) == len(named) else None
    what = bad if at is None else f"'{list(named.values())[at]}'"
    raise ValueError(f"the checksum of {what} is wrong")


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep open_clip from logging through the root logger; what matters comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def one_line(error: BaseException) -> str:
    """What an error says, on one line of 200 characters at most."""
    text = re.sub(r" <\S+ object at \w+>", "", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
