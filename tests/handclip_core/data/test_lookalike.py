"""The same image saved again is recognised; similar images are not taken for the same."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from handclip_core.data.lookalike import NEAR_BITS, SAME_GRADIENT, gradient_of, look_of, near_pairs, same_pairs

SIZE = (640, 480)


def silhouette(person: int, shot: int) -> Image.Image:
    """A plain hand on white with a few creases: everybody's is nearly the same, more so than in any photograph."""
    own, varied = np.random.default_rng([1, person]), np.random.default_rng([2, person, shot])
    image = Image.new("RGB", SIZE, (248, 248, 246))
    draw = ImageDraw.Draw(image)
    tone = tuple(int(value) for value in np.array([225, 180, 150]) + own.normal(0, 18, 3))
    centre, half, top = 320 + varied.normal(0, 10), 105 + own.normal(0, 6), 240 + varied.normal(0, 6)
    draw.rounded_rectangle([centre - half, top, centre + half, 520], radius=35, fill=tone)
    for finger, length in enumerate((160, 190, 200, 180)):
        x, reach, width = (finger - 1.5) * half * 0.52, length + own.normal(0, 6), 22 + own.normal(0, 1.5)
        tip = centre + x + reach * ((finger - 1.5) * 0.1 + varied.normal(0, 0.03))
        draw.line([centre + x, top + 30, tip, top + 30 - reach], fill=tone, width=int(2 * width))
        draw.ellipse([tip - width, top + 30 - reach - width, tip + width, top + 30 - reach + width], fill=tone)
    dark = tuple(max(0, value - 40) for value in tone)
    for _ in range(6):
        x, y = centre + own.uniform(-half, half), top + own.uniform(0, 170)
        draw.line([x, y, x + own.normal(0, 45), y + own.normal(0, 25)], fill=dark, width=3)
    noise = varied.normal(0, 3, (*SIZE[::-1], 1))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.2))) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, *, quality: int = 85) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def brighter(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda value: min(255, round(value * factor)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 40": lambda image: saved(image, quality=40),
    "half size": lambda image: saved(image.resize((320, 240))),
    "half size, nearest": lambda image: saved(image.resize((320, 240), Image.Resampling.NEAREST)),
    "a crop of 1 %": lambda image: saved(image.crop((6, 5, 634, 475))),
    "a quarter": lambda image: saved(image.resize((160, 120))),
    "brighter": lambda image: saved(brighter(image, 1.12)),
    "darker": lambda image: saved(brighter(image, 0.8)),
    "grey": lambda image: saved(image.convert("L")),
}


def bits_apart(first: Image.Image, second: Image.Image) -> int:
    return (int(look_of(first), 16) ^ int(look_of(second), 16)).bit_count()


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_image_saved_otherwise_is_the_same(change: str) -> None:
    for person in range(4):
        image = silhouette(person, 0)
        other = CHANGES[change](image)
        assert bits_apart(image, other) <= NEAR_BITS
        first, second = gradient_of(image), gradient_of(other)
        assert first is not None
        assert second is not None
        assert first @ second >= SAME_GRADIENT


def test_nearly_the_same_hands_of_different_people_are_different() -> None:
    images = [silhouette(person, 0) for person in range(40)]
    looks = np.array([look_of(image) for image in images])
    rows = np.arange(len(images))
    candidates = near_pairs(looks, rows, rows)
    candidates = candidates[candidates[:, 0] < candidates[:, 1]]
    assert len(candidates) > 0  # the hash alone takes some for the same
    assert len(same_pairs(candidates, lambda row: gradient_of(images[row]))) == 0


def test_pairs_are_those_of_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 256, (60, 32), dtype=np.uint8)
    words[40:] = words[:20]
    words[40:, :5] ^= random.integers(0, 256, (20, 5), dtype=np.uint8)  # 40 bits at most, 20 in the mean
    looks = np.array([word.tobytes().hex() for word in words])
    left, right = np.arange(0, 35), np.arange(30, 60)
    slow = {
        (i, j)
        for i in left.tolist()
        for j in right.tolist()
        if (int(looks[i], 16) ^ int(looks[j], 16)).bit_count() <= NEAR_BITS
    }
    found = near_pairs(looks, left, right)
    assert {(i, j) for i, j in found.tolist()} == slow
    assert len(slow) > 20


def test_no_more_pairs_than_asked_for_but_one() -> None:
    looks = np.array(["00" * 32] * 50)
    assert len(near_pairs(looks, np.arange(50), np.arange(50), limit=10)) == 11
    assert near_pairs(looks, np.arange(0), np.arange(50)).shape == (0, 2)


def test_a_image_without_content_is_never_the_same() -> None:
    blank = Image.new("RGB", SIZE, (250, 250, 250))
    assert gradient_of(blank) is None
    assert len(same_pairs(np.array([[0, 1]]), lambda _: gradient_of(blank))) == 0
