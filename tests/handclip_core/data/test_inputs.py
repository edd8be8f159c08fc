from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from handclip_core.data.inputs import FeatureInputs, Kept, PixelInputs, cached_features
from handclip_core.runs.context import ExperimentContext
from handclip_core.types import Encoded

CPU = torch.device("cpu")
ROWS = np.array([4, 0, 7, 9])


class Tower:
    """Means of images, and how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pixels: Tensor) -> Encoded:
        self.calls += 1
        return Encoded(features=pixels.mean(dim=(2, 3)), projected=pixels.amax(dim=(2, 3)))


def cached(context: ExperimentContext, tower: Tower, folder: Path, *, key: str = "a") -> FeatureInputs:
    return cached_features(tower, context.pixel_inputs, ROWS, key=key, cache=folder, device=CPU)


def test_images_are_the_cached_bytes_as_floats(tiny_context: ExperimentContext) -> None:
    images = tiny_context.pixel_inputs.of(ROWS, device=CPU)
    bytes_ = tiny_context.pixels.batch(ROWS)
    assert images.shape == (4, 3, 32, 32)
    assert np.array_equal((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), bytes_)


def test_what_lives_on_the_device_is_the_same(tiny_context: ExperimentContext, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.array(tiny_context.pixels.pixels)
    asked: list[int] = []

    def room(num_bytes: int, _: torch.device, *, kept: int) -> bool:
        asked.append(num_bytes + kept)
        return True

    expected = [Kept(array).take(at, device=CPU) for at in (np.array([3, 0, 3]), np.array([1]))]
    monkeypatch.setattr("handclip_core.data.inputs.room_for", room)
    kept = Kept(array)
    found = [kept.take(at, device=CPU) for at in (np.array([3, 0, 3]), np.array([1]))]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert asked == [array.nbytes]
    other = Kept(array)
    other.take(np.array([1]), device=CPU)
    assert asked[1:] == [2 * array.nbytes]  # beside the first
    array[:] = 0  # the copy is read, not the file
    assert torch.equal(kept.take(np.array([1]), device=CPU), expected[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_holds_what_fits_and_is_sent_what_does_not(
    tiny_context: ExperimentContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, rows = torch.device("cuda"), np.array([4, 0])
    expected = tiny_context.pixel_inputs.of(rows, device=CPU)
    assert torch.equal(tiny_context.pixel_inputs.of(rows, device=gpu).cpu(), expected)
    monkeypatch.setattr("handclip_core.data.inputs.room_for", lambda *_, **__: False)
    assert torch.equal(PixelInputs(tiny_context.pixels).of(rows, device=gpu).cpu(), expected)


def test_rows_are_found_in_any_order(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    inputs = cached(tiny_context, Tower(), tmp_path)
    asked = np.array([9, 4, 4])
    expected = Tower()(tiny_context.pixel_inputs.of(asked, device=CPU))
    found = inputs.of(asked, device=CPU)
    torch.testing.assert_close(found.features, expected.features)
    torch.testing.assert_close(found.projected, expected.projected)


def test_a_cache_is_made_once_for_each_key(tiny_context: ExperimentContext, tmp_path: Path) -> None:
    tower = Tower()
    for key in ("a", "a", "b", "a"):
        cached(tiny_context, tower, tmp_path, key=key)
    assert tower.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_cache_is_made_anew(tiny_context: ExperimentContext, tmp_path: Path, damage: str) -> None:
    before = cached(tiny_context, Tower(), tmp_path).of(ROWS, device=CPU).projected.clone()
    (file,) = tmp_path.rglob("projected.npy")
    data = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(data[:100] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
    tower = Tower()
    after = cached(tiny_context, tower, tmp_path).of(ROWS, device=CPU).projected
    assert tower.calls == 1
    assert torch.equal(before, after)
