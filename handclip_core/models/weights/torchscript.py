"""TorchScript archives, in which OpenAI published CLIP: their weights, read without loading the program in them."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64, "BoolStorage": torch.bool, "ByteStorage": torch.uint8, "CharStorage": torch.int8,
    "ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64,
}  # fmt: skip


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is an archive of code and weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(entry).name == "constants.pkl" for entry in archive.namelist())


def computes_gelu(path: Path) -> bool:
    """Whether the program of the archive ``path`` calls GELU; OpenAI's compute QuickGELU by a sigmoid."""
    with zipfile.ZipFile(path) as archive:
        code = (entry for entry in archive.namelist() if "code" in Path(entry).parts and entry.endswith(".py"))
        return any(b"gelu(" in archive.read(entry) for entry in code)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of the program's module by the names of its state dict; a wrong checksum raises BadZipFile."""
    with zipfile.ZipFile(path) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
        with archive.open(name) as file:
            module = _Unpickler(file, archive, name.removesuffix("data.pkl")).load()
    found: dict[str, Tensor] = {}
    _collect(module, "", found)
    return found


class _Object:
    """An object of any class, by its state alone."""

    def __init__(self, *args: object) -> None:
        del args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Makes tensors and plain containers; whatever else a pickle names is an ``_Object``, so no code is reached."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return _Object

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, size = pid
        data = bytearray(self._archive.read(f"{self._root}data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=size) if size else torch.empty(0, dtype=dtype)


def _strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _collect(module: _Object, name: str, into: dict[str, Tensor]) -> None:
    state = module.state if isinstance(module.state, dict) else {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            into[f"{name}{key}"] = value
        elif isinstance(value, _Object):
            _collect(value, f"{name}{key}.", into)
