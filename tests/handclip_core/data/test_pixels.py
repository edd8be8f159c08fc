"""The pixel cache holds the right pixels, is built once, and is never used half-written or out of date."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handclip_core.data import pixels
from handclip_core.data.folder import prepare_folder
from handclip_core.data.framing import Frame, Framing
from handclip_core.data.manifest import Prepared
from handclip_core.data.pixels import PixelCache, pixel_cache, shrink
from handclip_core.errors import InputError
from tests.limits import LIMIT_S

PEOPLE = {f"p{i:02d}": 3 for i in range(8)}
SIZE_PX = 24

SLOW_BUILD = """
import sys, time
from pathlib import Path
from handclip_core.data import pixels
from handclip_core.data.manifest import load_prepared
decoded, shrink = [], pixels.shrink
def slow(data, *, size_px, frame):
    decoded.append(1)
    time.sleep(float(sys.argv[3]))
    return shrink(data, size_px=size_px, frame=frame)
pixels.shrink = slow
pixels.pixel_cache(load_prepared(Path(sys.argv[1])), size_px=24, cache_root=Path(sys.argv[2]), workers=1)
print(len(decoded))
"""


@pytest.fixture
def prepared(folders: Callable[..., Path], tmp_path: Path) -> Prepared:
    return prepare_folder(folders(PEOPLE), tmp_path / "out")


def build(prepared: Prepared, tmp_path: Path, *, size_px: int = SIZE_PX) -> PixelCache:
    return pixel_cache(prepared, size_px=size_px, cache_root=tmp_path / "cache")


def expected_pixels(prepared: Prepared) -> np.ndarray:
    return np.stack([shrink(path.read_bytes(), size_px=SIZE_PX) for path in prepared.paths()])


def no_decoding(_: bytes, *, size_px: int, frame: Frame) -> np.ndarray:
    del frame
    raise AssertionError(f"decoded again at {size_px} px")


def slow_build(prepared: Prepared, tmp_path: Path, *, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_BUILD, str(prepared.folder), str(tmp_path / "cache"), str(pause_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def cache_folders(tmp_path: Path) -> list[Path]:
    return [path for path in sorted((tmp_path / "cache").iterdir()) if path.is_dir()]


def test_rows_come_back_in_the_order_asked_for(prepared: Prepared, tmp_path: Path) -> None:
    cache = build(prepared, tmp_path)
    assert len(cache) == len(prepared.manifest)
    assert cache.size_px == SIZE_PX
    expected = expected_pixels(prepared)
    rows = np.random.default_rng(0).integers(0, len(cache), 100)
    batch = cache.batch(rows)
    assert batch.dtype == np.uint8
    assert np.array_equal(batch, expected[rows])
    assert np.array_equal(cache.batch([5, 5, 0]), expected[[5, 5, 0]])
    assert cache.batch([]).shape == (0, SIZE_PX, SIZE_PX, 3)


def test_a_batch_is_a_copy(prepared: Prepared, tmp_path: Path) -> None:
    cache = build(prepared, tmp_path)
    before = cache.batch([3])
    cache.batch([3])[:] = 0
    assert np.array_equal(cache.batch([3]), before)
    with pytest.raises(ValueError, match="read-only"):
        cache.pixels[0] = 0


def test_the_whole_image_is_kept_and_draft_mode_changes_little(
    make_image: Callable[..., Image.Image], tmp_path: Path
) -> None:
    image = make_image(7, size=(1600, 1200))
    for corner in ((0, 0), (1400, 0), (0, 1000), (1400, 1000)):
        image.paste((255, 0, 0), (*corner, corner[0] + 200, corner[1] + 200))
    image.save(tmp_path / "x.jpg", quality=95)
    small = shrink((tmp_path / "x.jpg").read_bytes(), size_px=256)
    for row, column in ((5, 5), (5, 250), (250, 5), (250, 250)):
        assert np.abs(small[row, column].astype(int) - (254, 0, 0)).max() < 16
    whole = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(small.astype(int) - whole).mean() < 2


def test_every_frame_has_a_cache_of_its_own(prepared: Prepared, tmp_path: Path) -> None:
    squashed = build(prepared, tmp_path)
    cropped = pixel_cache(prepared, size_px=SIZE_PX, cache_root=tmp_path / "cache", frame=Frame(Framing.CROP))
    first = prepared.paths()[0].read_bytes()
    assert np.array_equal(cropped.batch([0])[0], shrink(first, size_px=SIZE_PX, frame=Frame(Framing.CROP)))
    assert not np.array_equal(cropped.pixels, squashed.pixels)
    assert np.array_equal(build(prepared, tmp_path).pixels, squashed.pixels)


def test_a_found_cache_is_not_built_again(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(prepared, tmp_path)
    other_split = prepare_folder(prepared.root, tmp_path / "other", seed=9)
    monkeypatch.setattr(pixels, "shrink", no_decoding)
    assert np.array_equal(build(prepared, tmp_path).pixels, first.pixels)
    assert np.array_equal(build(other_split, tmp_path).batch([0]), first.batch([0]))
    with pytest.raises(AssertionError, match="decoded again"):
        build(prepared, tmp_path, size_px=SIZE_PX + 1)
    monkeypatch.setattr(pixels, "DECODE_VERSION", pixels.DECODE_VERSION + 1)
    with pytest.raises(AssertionError, match="decoded again"):
        build(prepared, tmp_path)


def test_equal_files_are_kept_once(prepared: Prepared, tmp_path: Path) -> None:
    (prepared.root / "p00" / "copy.png").write_bytes((prepared.root / "p00" / "0.png").read_bytes())
    more = prepare_folder(prepared.root, tmp_path / "more")
    cache = build(more, tmp_path)
    assert len(cache) == 25
    assert len(cache.pixels) == 24
    assert np.array_equal(cache.batch(np.arange(25)), expected_pixels(more))


@pytest.mark.parametrize("change", ["changed", "missing", "truncated"])
def test_files_that_are_not_what_was_prepared_are_refused(prepared: Prepared, tmp_path: Path, change: str) -> None:
    path = prepared.paths()[4]
    data = path.read_bytes()
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(prepared.paths()[5].read_bytes() if change == "changed" else data[:100])
    reason = "no such file" if change == "missing" else "changed since `prepare`"
    with pytest.raises(InputError, match=rf"{path.name}: {reason}; run `prepare` again"):
        build(prepared, tmp_path)
    path.write_bytes(data)
    assert np.array_equal(build(prepared, tmp_path).batch(np.arange(24)), expected_pixels(prepared))


def spoil_length(folder: Path) -> None:
    os.truncate(folder / "pixels.u8", 1000)


def spoil_pixels(folder: Path) -> None:
    size = (folder / "pixels.u8").stat().st_size
    (folder / "pixels.u8").write_bytes(bytes(size))


def spoil_one_bit(folder: Path) -> None:
    pixels = bytearray((folder / "pixels.u8").read_bytes())
    pixels[3 * len(pixels) // 7] ^= 1
    (folder / "pixels.u8").write_bytes(pixels)


def spoil_checksum(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    index["checksums"][7] ^= 1
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def spoil_pixels_gone(folder: Path) -> None:
    (folder / "pixels.u8").unlink()


def spoil_index(folder: Path) -> None:
    (folder / "index.json").write_text("{", encoding="utf-8")


def spoil_index_gone(folder: Path) -> None:
    (folder / "index.json").unlink()


def spoil_size(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    (folder / "index.json").write_text(json.dumps(index | {"size_px": 12}), encoding="utf-8")


def spoil_hashes(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    (folder / "index.json").write_text(json.dumps(index | {"hashes": index["hashes"][::-1]}), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_length,
        spoil_pixels,
        spoil_one_bit,
        spoil_checksum,
        spoil_pixels_gone,
        spoil_index,
        spoil_index_gone,
        spoil_size,
        spoil_hashes,
    ],
)
def test_a_damaged_cache_is_rebuilt(prepared: Prepared, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    build(prepared, tmp_path)
    (folder,) = cache_folders(tmp_path)
    spoil(folder)
    assert np.array_equal(build(prepared, tmp_path).batch(np.arange(24)), expected_pixels(prepared))


def test_what_was_left_unfinished_is_thrown_away(prepared: Prepared, tmp_path: Path) -> None:
    build(prepared, tmp_path)
    (folder,) = cache_folders(tmp_path)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    spoil_pixels(partial)
    assert np.array_equal(build(prepared, tmp_path).batch(np.arange(24)), expected_pixels(prepared))
    assert cache_folders(tmp_path) == [folder]


@pytest.mark.spawn
def test_a_build_may_be_killed_at_any_moment(prepared: Prepared, tmp_path: Path) -> None:
    for pattern in ("*.lock", "*.partial/*"):  # as soon as it has begun, and while pixels are written
        process = slow_build(prepared, tmp_path, pause_s=0.2)
        deadline = time.monotonic() + LIMIT_S
        while not list((tmp_path / "cache").glob(pattern)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert all(folder.name.endswith(".partial") for folder in cache_folders(tmp_path))
    assert np.array_equal(build(prepared, tmp_path).batch(np.arange(24)), expected_pixels(prepared))
    assert len(cache_folders(tmp_path)) == 1


@pytest.mark.spawn
def test_two_processes_build_it_once(prepared: Prepared, tmp_path: Path) -> None:
    processes = [slow_build(prepared, tmp_path, pause_s=0.05) for _ in range(2)]
    decoded = [int(process.communicate(timeout=LIMIT_S)[0]) for process in processes]
    assert sorted(decoded) == [0, 24]
    assert np.array_equal(build(prepared, tmp_path).batch(np.arange(24)), expected_pixels(prepared))


def test_a_full_disk_and_a_read_only_place_are_named(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: the pixel cache cannot be written"):
        pixel_cache(prepared, size_px=SIZE_PX, cache_root=tmp_path / "file")

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"cache: the pixel cache cannot be written \(No space left on device\)"):
        build(prepared, tmp_path)


def test_size_must_be_positive(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="size_px 0"):
        build(prepared, tmp_path, size_px=0)
