"""Claim: at 256 px, 11k Hands decodes at 150 images/s or more on 2 cores; random batches come at over 10,000 images/s.

Run `python benchmarks/pixels.py`. The build is measured on 1600x1200 JPEG files made here, beside decoding each file
whole and then shrinking it; the batches on a file as large as the whole of 11k, beside decoding them from JPEG anew.
"""

import argparse
import hashlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from handclip_core.data.manifest import Cut, Prepared, Protocol
from handclip_core.data.parallel import available_cores, map_files
from handclip_core.data.pixels import PixelCache, pixel_cache

SIZE_PX = 256
ELEVEN_K = 11_076
BATCH = 128
NUM_DISTINCT = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=480, help="JPEG files to decode")
    parser.add_argument("--workers", type=int, default=min(2, available_cores()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = write_jpegs(folder / "jpegs", arguments.files)
        paths = prepared.paths()
        bytes_a_file = sum(path.stat().st_size for path in paths) / len(paths)
        print(f"{len(paths)} JPEG files of 1600x1200, {bytes_a_file / 1024:.0f} KiB each, {arguments.workers} workers")
        build = measure_build(prepared, folder / "cache", arguments.workers)
        whole = measure_whole(paths, arguments.workers)
        print(f"build at {SIZE_PX} px: {build:9.0f} images/s ({build / whole:.1f}x decoding files whole, {whole:.0f})")
        batches = measure_batches(folder / "all.u8")
        print(f"random batches:  {batches:9.0f} images/s ({batches / build:.0f}x decoding them again)")


def write_jpegs(folder: Path, number: int) -> Prepared:
    """Stand-ins for photographs: smooth shapes under sensor noise; what repeats differs in the comment of its file."""
    folder.mkdir()
    random = np.random.default_rng(0)
    images = []
    for _ in range(NUM_DISTINCT):
        coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((1600, 1200), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + random.integers(-4, 5, (1200, 1600, 1), dtype=np.int16)
        images.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    hashes, names = [], []
    for i in range(number):
        data = io.BytesIO()
        images[i % NUM_DISTINCT].save(data, "JPEG", quality=90, comment=str(i))
        names.append(f"{i:05d}.jpg")
        (folder / names[-1]).write_bytes(data.getvalue())
        hashes.append(hashlib.sha256(data.getvalue()).hexdigest())
    protocol = Protocol(
        source="folder",
        cut=Cut.COMMON,
        seed=0,
        root=str(folder),
        source_hash="",
        manifest_hash="",
        closed_val=(),
        draws={},
    )
    return Prepared(folder, folder, pd.DataFrame({"path": names, "hash": hashes}), protocol)


def measure_build(prepared: Prepared, cache_root: Path, workers: int) -> float:
    started = time.perf_counter()
    pixel_cache(prepared, size_px=SIZE_PX, cache_root=cache_root, workers=workers)
    return len(prepared.manifest) / (time.perf_counter() - started)


def measure_whole(paths: list[Path], workers: int) -> float:
    def decode(path: Path) -> None:
        Image.open(path).convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)

    started = time.perf_counter()
    for _ in map_files(decode, paths[::4], description="decoding whole", workers=workers):
        pass
    return len(paths[::4]) / (time.perf_counter() - started)


def measure_batches(path: Path) -> float:
    shape = (ELEVEN_K, SIZE_PX, SIZE_PX, 3)
    written = np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)
    for i in range(ELEVEN_K):
        written[i] = i % 256
    cache = PixelCache(np.memmap(path, dtype=np.uint8, mode="r", shape=shape).view(np.ndarray), np.arange(ELEVEN_K))
    random = np.random.default_rng(0)
    batches = [random.integers(0, ELEVEN_K, BATCH) for _ in range(ELEVEN_K // BATCH)]
    for rows in batches:
        cache.batch(rows)
    started = time.perf_counter()
    for _ in range(3):
        for rows in batches:
            cache.batch(rows)
    return 3 * len(batches) * BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
