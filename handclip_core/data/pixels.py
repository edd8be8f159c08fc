"""The pixel cache: every image decoded once into a memory-mapped file that all processes of a machine share."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from handclip_core.config import Config
from handclip_core.data.framing import Frame
from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.manifest import Prepared
from handclip_core.data.parallel import map_files
from handclip_core.errors import InputError

DECODE_VERSION = 3
"""Part of every key: raise it whenever `shrink` gives other pixels than before."""
PIXELS_NAME = "pixels.u8"
INDEX_NAME = "index.json"
SQUASHED = Frame()


class Index(Config):
    """What a cache holds, in the order of its pixels."""

    version: int
    """DECODE_VERSION of the code that wrote it."""
    size_px: int
    """Width and height of every image."""
    hashes: tuple[str, ...]
    """SHA-256 of the files, ascending."""
    checksums: tuple[int, ...]
    """CRC-32 of the pixels of each image."""


@dataclass(frozen=True)
class PixelCache:
    """The decoded images of a manifest, indexed by manifest row."""

    pixels: np.ndarray
    """Memory-mapped uint8 [M, S, S, 3], one image a distinct file, read-only."""
    position: np.ndarray
    """int64 [N]: position of each manifest row's image in ``pixels``."""

    def batch(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the images of manifest ``rows`` [B]: uint8 [B, S, S, 3]."""
        return np.take(self.pixels, self.position[np.asarray(rows, dtype=np.int64)], axis=0)

    @property
    def size_px(self) -> int:
        """Width and height of every image."""
        return int(self.pixels.shape[1])

    def __len__(self) -> int:
        return len(self.position)


def shrink(data: bytes, *, size_px: int, frame: Frame = SQUASHED) -> np.ndarray:
    """Decode one image to uint8 [S, S, 3].

    By default the whole image is squeezed into the square, as the published code does: nothing of the hand is cut off
    and no pixel is spent on a border; the images of a set share one shape, so all are squeezed alike. JPEG files are
    then decoded at a fraction of their size by the DCT (Pillow's draft mode). Raises BadImageError.
    """
    image = decode_rgb(data, draft_px=size_px if frame.reads_fractions else None)
    return np.asarray(frame.square(image, size_px))


def pixel_cache(
    prepared: Prepared, *, size_px: int, cache_root: Path, frame: Frame = SQUASHED, workers: int | None = None
) -> PixelCache:
    """Open the cache of a prepared data set at a size and in a frame, building it first if there is none.

    Caches lie in ``cache_root`` under a name made of the contents of the files, size, frame and DECODE_VERSION, so data
    sets of the same files share one whatever their cut. Building happens under a lock, in a folder of a temporary name
    that is renamed when complete; what a killed process left is thrown away, and a cache that does not match its own
    index is rebuilt. Raises InputError if a file is bad, missing, or has changed since `prepare`, or the cache
    cannot be written.
    """
    if size_px < 1:
        raise InputError(f"size_px {size_px}: an image needs at least one pixel")
    hashes = prepared.manifest["hash"].to_numpy(dtype=str)
    distinct, first, position = np.unique(hashes, return_index=True, return_inverse=True)
    wanted = tuple(str(value) for value in distinct)
    folder = cache_root / f"pixels-{size_px}-{_key(wanted, size_px, frame)}"
    pixels = _open(folder, wanted, size_px)
    if pixels is None:
        paths = prepared.paths()
        pixels = _build_once(
            folder, wanted, [paths[row] for row in first], size_px=size_px, frame=frame, workers=workers
        )
    return PixelCache(pixels=pixels, position=position.astype(np.int64))


def _key(hashes: tuple[str, ...], size_px: int, frame: Frame) -> str:
    values = [DECODE_VERSION, size_px, hashes, *([] if frame == SQUASHED else [asdict(frame)])]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def _open(folder: Path, hashes: tuple[str, ...], size_px: int) -> np.ndarray | None:
    """The pixels of a complete cache, or None if there is none whose every image has its checksum."""
    shape = (len(hashes), size_px, size_px, 3)
    try:
        index = Index.parse(json.loads((folder / INDEX_NAME).read_bytes()), source=str(folder))
        if (index.version, index.size_px, index.hashes) != (DECODE_VERSION, size_px, hashes):
            return None
        if len(index.checksums) != len(hashes) or (folder / PIXELS_NAME).stat().st_size != np.prod(shape):
            return None
        pixels = np.memmap(folder / PIXELS_NAME, dtype=np.uint8, mode="r", shape=shape)
    except (OSError, ValueError):
        return None
    sound = all(zlib.crc32(pixels[i].data) == index.checksums[i] for i in range(len(hashes)))
    return pixels.view(np.ndarray) if sound else None


def _build_once(
    folder: Path, hashes: tuple[str, ...], paths: list[Path], *, size_px: int, frame: Frame, workers: int | None
) -> np.ndarray:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            pixels = _open(folder, hashes, size_px)  # another process may have built it while this one waited
            if pixels is None:
                _build(folder, hashes, paths, size_px=size_px, frame=frame, workers=workers)
                pixels = _open(folder, hashes, size_px)
    except OSError as error:
        raise InputError(f"{folder.parent}: the pixel cache cannot be written ({error.strerror or error})") from None
    if pixels is None:
        raise InputError(f"{folder}: the pixel cache reads back other pixels than were written; is the disk sound?")
    return pixels


def _build(
    folder: Path, hashes: tuple[str, ...], paths: list[Path], *, size_px: int, frame: Frame, workers: int | None
) -> None:
    """Decode all images into a temporary folder and rename it; the caller holds the lock."""
    partial = folder.with_name(f"{folder.name}.partial")
    for leftover in (partial, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    shape = (len(hashes), size_px, size_px, 3)
    _reserve(partial / PIXELS_NAME, num_bytes=int(np.prod(shape)))
    pixels = np.memmap(partial / PIXELS_NAME, dtype=np.uint8, mode="r+", shape=shape)

    def fill(row: int) -> int:
        pixels[row] = _decode_checked(paths[row], hashes[row], size_px, frame)
        return zlib.crc32(pixels[row].data)

    checksums = tuple(
        map_files(fill, range(len(hashes)), description=f"decoding images at {size_px} px", workers=workers)
    )
    pixels.flush()
    index = Index(version=DECODE_VERSION, size_px=size_px, hashes=hashes, checksums=checksums)
    with (partial / INDEX_NAME).open("w", encoding="utf-8") as file:
        file.write(index.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder)


def _reserve(path: Path, *, num_bytes: int) -> None:
    """Make a file of this size whose blocks exist: writing a sparse map on a full disk would kill the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            file.truncate(num_bytes)


def _decode_checked(path: Path, expected: str, size_px: int, frame: Frame) -> np.ndarray:
    try:
        data = read_image(path)
        if hashlib.sha256(data).hexdigest() != expected:
            raise BadImageError("changed since `prepare`")
        return shrink(data, size_px=size_px, frame=frame)
    except BadImageError as error:
        raise InputError(f"{path}: {error}; run `prepare` again") from None
