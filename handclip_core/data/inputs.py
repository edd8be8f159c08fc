"""Model inputs by manifest row: decoded pictures, or what a frozen image tower once made of them."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.console import track
from handclip_core.data.pixels import PixelCache
from handclip_core.types import Encoded

Rows = NDArray[np.int64]
CHUNK = 128
FEATURES_FILE = "features.npy"
PROJECTED_FILE = "projected.npy"
CHECKSUMS_FILE = "checksums.json"


class Inputs(Protocol):
    """Where a model's inputs come from."""

    def of(self, rows: Rows, *, device: torch.device) -> Tensor | Encoded:
        """The inputs of manifest ``rows`` [B] on ``device``."""
        ...


class PixelInputs:
    """Decoded pictures [B, 3, H, W] as floats in [0, 1]."""

    def __init__(self, pixels: PixelCache) -> None:
        self._pixels = pixels

    def of(self, rows: Rows, *, device: torch.device) -> Tensor:
        """The pictures of ``rows``."""
        bytes_ = torch.from_numpy(self._pixels.batch(rows)).to(device)
        return bytes_.permute(0, 3, 1, 2).float().div_(255)


class FeatureInputs:
    """Activations of a frozen image tower: two memory-mapped arrays [n, F] and [n, D] for manifest ``rows`` [n]."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        self._features = np.load(folder / FEATURES_FILE, mmap_mode="r")
        self._projected = np.load(folder / PROJECTED_FILE, mmap_mode="r")
        self._position = np.full(int(rows.max()) + 1, -1, np.int64)
        self._position[rows] = np.arange(len(rows))

    def of(self, rows: Rows, *, device: torch.device) -> Encoded:
        """The activations of ``rows``, every one of which must have been cached."""
        at = self._position[rows]
        assert (at >= 0).all(), "a row that was not cached"
        features, projected = (torch.from_numpy(array[at]).to(device) for array in (self._features, self._projected))
        return Encoded(features=features, projected=projected)


def cached_features(
    encode: Callable[[Tensor], Encoded], inputs: PixelInputs, rows: Rows, *, key: str, cache: Path, device: torch.device
) -> FeatureInputs:
    """The activations of ``rows``, computed once a machine and shared by all processes; a damaged cache is made anew.

    ``key`` must stand for the tower's weights and the pictures; the rows are added to it here.
    """
    name = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()[:32]
    folder = cache / "features" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not _is_sound(folder):
            _write(folder, _encode_all(encode, inputs, rows, device))
    return FeatureInputs(folder, rows)


def _write(folder: Path, encoded: Encoded) -> None:
    """Write a cache under a temporary name and rename it, in place of what may be there; the caller holds the lock."""
    partial = folder.with_suffix(".partial")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    np.save(partial / FEATURES_FILE, encoded.features.numpy())
    np.save(partial / PROJECTED_FILE, encoded.projected.numpy())
    checksums = {name: _checksum(partial / name) for name in (FEATURES_FILE, PROJECTED_FILE)}
    (partial / CHECKSUMS_FILE).write_text(json.dumps(checksums))
    partial.rename(folder)


def _is_sound(folder: Path) -> bool:
    """Whether a cache is there and whole."""
    try:
        checksums = json.loads((folder / CHECKSUMS_FILE).read_text())
        return bool(checksums == {name: _checksum(folder / name) for name in (FEATURES_FILE, PROJECTED_FILE)})
    except (OSError, ValueError):
        return False


def _checksum(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


@torch.no_grad()
def _encode_all(encode: Callable[[Tensor], Encoded], inputs: PixelInputs, rows: Rows, device: torch.device) -> Encoded:
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    parts = [
        encode(inputs.of(chunk, device=device))
        for chunk in track(chunks, description="encoding pictures", total=len(chunks))
    ]
    features, projected = (
        torch.cat(tensors).float().cpu() for tensors in zip(*((p.features, p.projected) for p in parts), strict=True)
    )
    return Encoded(features=features, projected=projected)
