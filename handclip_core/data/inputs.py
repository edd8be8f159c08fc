"""Model inputs by manifest row: decoded images, or what a frozen image tower once made of them."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.console import track
from handclip_core.data.pixels import PixelCache
from handclip_core.devices import room_for
from handclip_core.types import Activations, Encoded, ModelInputs, PerTower

Rows = NDArray[np.int64]
CHUNK = 128
FEATURES, PROJECTED, READOUT, HIDDEN = "features", "projected", "readout", "hidden"
CHECKSUMS_FILE = "checksums.json"
READ_BYTES = 1 << 24


class Inputs(Protocol):
    """Where a model's inputs come from."""

    def of(self, rows: Rows, *, device: torch.device) -> ModelInputs:
        """The inputs of manifest ``rows`` [B] on ``device``."""
        ...


class Kept:
    """An array [M, ...] whose entries are read again and again: on a GPU with room for it, it lives there.

    A GPU without gets what is asked for through pinned memory, so that copying does not hold up what it computes.
    """

    _living: ClassVar[WeakSet[Tensor]] = WeakSet()
    """What lives on GPUs, for this process."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._whole: dict[torch.device, Tensor | None] = {}

    def take(self, at: Rows, *, device: torch.device) -> Tensor:
        """The entries at positions ``at`` [B]."""
        if device not in self._whole:
            self._whole[device] = self._moved(device)
        whole = self._whole[device]
        if whole is not None:
            return whole[torch.from_numpy(at).to(device)]
        taken = torch.from_numpy(np.take(self._array, at, axis=0))
        return taken.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else taken

    def _moved(self, device: torch.device) -> Tensor | None:
        """The whole array there, some entries at a time; None without room for it."""
        kept = sum(tensor.nbytes for tensor in self._living if tensor.device == device)
        if not room_for(self._array.nbytes, device, kept=kept):
            return None
        dtype = torch.from_numpy(self._array[:0].copy()).dtype
        try:
            whole = torch.empty(self._array.shape, dtype=dtype, device=device)
        except torch.OutOfMemoryError:  # another trial was faster
            return None
        for start in range(0, len(self._array), CHUNK):
            whole[start : start + CHUNK] = torch.from_numpy(self._array[start : start + CHUNK].copy()).to(device)
        self._living.add(whole)
        return whole


class PixelInputs:
    """Decoded images [B, 3, H, W] as floats in [0, 1]."""

    def __init__(self, pixels: PixelCache) -> None:
        self._position, self._kept = pixels.position, Kept(pixels.pixels)

    def of(self, rows: Rows, *, device: torch.device) -> Tensor:
        """The images of ``rows``."""
        bytes_ = self._kept.take(self._position[rows], device=device)
        return bytes_.permute(0, 3, 1, 2).float().div_(255)


class PerTowerInputs:
    """Decoded images as each of several towers reads them."""

    def __init__(self, each: Sequence[PixelInputs]) -> None:
        self._each = tuple(each)

    def of(self, rows: Rows, *, device: torch.device) -> PerTower:
        """The images of ``rows``, in every form."""
        return PerTower(tuple(inputs.of(rows, device=device) for inputs in self._each))


class FeatureInputs:
    """What a frozen image tower made of images: arrays [n, F], [n, D] and, if wanted, [n, R] for the cached rows."""

    def __init__(self, arrays: "CachedArrays") -> None:
        self._arrays = arrays

    def of(self, rows: Rows, *, device: torch.device) -> Encoded:
        """The encoded images of ``rows``, every one of which must have been cached."""
        names = [name for name in (FEATURES, PROJECTED, READOUT) if self._arrays.has(name)]
        return Encoded(*(self._arrays.of(name, rows, device=device) for name in names))


class ActivationInputs:
    """What the first ``depth`` blocks of an image tower made of images: one array [n, ...] for the cached rows."""

    def __init__(self, arrays: "CachedArrays", depth: int) -> None:
        self._arrays = arrays
        self._depth = depth

    def of(self, rows: Rows, *, device: torch.device) -> Activations:
        """The activations of ``rows``, every one of which must have been cached."""
        return Activations(self._arrays.of(HIDDEN, rows, device=device), self._depth)


class CachedArrays:
    """Memory-mapped arrays [n, ...] for manifest ``rows`` [n]."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        self._arrays = {path.stem: Kept(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy")}
        self._position = np.full(int(rows.max()) + 1, -1, np.int64)
        self._position[rows] = np.arange(len(rows))

    def has(self, name: str) -> bool:
        """Whether there is an array ``name``."""
        return name in self._arrays

    def of(self, name: str, rows: Rows, *, device: torch.device) -> Tensor:
        """The entries of ``rows`` in array ``name``, every one of which must have been cached."""
        at = self._position[rows]
        assert (at >= 0).all(), "a row that was not cached"
        return self._arrays[name].take(at, device=device)


def cached_features(
    encode: Callable[[Tensor], Encoded], inputs: PixelInputs, rows: Rows, *, key: str, cache: Path, device: torch.device
) -> FeatureInputs:
    """What a frozen tower makes of ``rows``; see ``cached_arrays``."""

    def arrays(pixels: Tensor) -> dict[str, Tensor]:
        encoded = encode(pixels)
        read = {} if encoded.readout is None else {READOUT: encoded.readout}
        return {FEATURES: encoded.features, PROJECTED: encoded.projected, **read}

    return FeatureInputs(cached_arrays(arrays, inputs, rows, key=key, cache=cache, device=device))


def cached_activations(
    head: Callable[[Tensor], Tensor],
    inputs: PixelInputs,
    rows: Rows,
    *,
    depth: int,
    key: str,
    cache: Path,
    device: torch.device,
) -> ActivationInputs:
    """What the first ``depth`` blocks of a tower make of ``rows``; see ``cached_arrays``."""
    found = cached_arrays(
        lambda pixels: {HIDDEN: head(pixels)}, inputs, rows, key=f"{key} {depth}", cache=cache, device=device
    )
    return ActivationInputs(found, depth)


def cached_arrays(
    compute: Callable[[Tensor], dict[str, Tensor]],
    inputs: PixelInputs,
    rows: Rows,
    *,
    key: str,
    cache: Path,
    device: torch.device,
) -> CachedArrays:
    """Arrays that ``compute`` makes of images, once a machine for all processes; a damaged cache is made anew.

    ``key`` must stand for the weights and the images; the rows are added to it here.
    """
    name = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()[:32]
    folder = cache / "features" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not _is_sound(folder):
            _build(folder, compute, inputs, rows, device)
    return CachedArrays(folder, rows)


@torch.no_grad()
def _build(
    folder: Path, compute: Callable[[Tensor], dict[str, Tensor]], inputs: PixelInputs, rows: Rows, device: torch.device
) -> None:
    """Write a cache under a temporary name and rename it, in place of what may be there; the caller holds the lock."""
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    files: dict[str, Any] = {}
    starts = range(0, len(rows), CHUNK)
    sizes = [min(CHUNK, len(rows) - start) for start in starts]
    for start in track(starts, description="encoding images", total=len(rows), sizes=sizes):
        found = compute(inputs.of(rows[start : start + CHUNK], device=device))
        for name, tensor in found.items():
            values = tensor.float().cpu().numpy()
            if name not in files:
                shape = (len(rows), *values.shape[1:])
                files[name] = np.lib.format.open_memmap(
                    partial / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape
                )
            files[name][start : start + len(values)] = values
    for file in files.values():
        file.flush()
    checksums = {path.name: _checksum(path) for path in partial.glob("*.npy")}
    (partial / CHECKSUMS_FILE).write_text(json.dumps(checksums))
    partial.rename(folder)


def _is_sound(folder: Path) -> bool:
    """Whether a cache is there and whole."""
    try:
        checksums = json.loads((folder / CHECKSUMS_FILE).read_text())
        return bool(checksums == {name: _checksum(folder / name) for name in checksums}) and len(checksums) > 0
    except (OSError, ValueError, AttributeError):
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return checksum
