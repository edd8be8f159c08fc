"""Small operations on float32 images [H, W]: blurs, smooth unions, lines, noise."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

from handclip_core.drawn.seeds import F32, F64, stream

_PLAIN_SIGMA = 2.5
_STRIP = 1 << 15
"""Pixels of a strip: what is computed of so few stays in a core's own cache."""


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of an image [H, W], some at a time, for arithmetic of many steps that looks at no other pixel.

    The values are those of the whole image at once, to the last bit; large images take half the time.
    """
    rows = max(1, _STRIP // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def resize(field: F32, height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> F32:
    """Resample [H, W] to [height, width]."""
    return np.array(Image.fromarray(field).resize((width, height), how))


def _fir(field: F32, taps: F32) -> F32:
    """Convolve both axes with symmetric ``taps``; the border repeats."""
    reach = len(taps) // 2
    for axis in (0, 1):
        padded = np.pad(field, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        height, width = field.shape
        field = np.zeros_like(field)
        for rows in strips(field.shape):
            total = field[rows]
            if axis == 1:
                strip = padded[rows]
                for k, tap in enumerate(taps):
                    total += tap * strip[:, k : k + width]
            else:
                strip = padded[rows.start : min(rows.stop, height) + 2 * reach]
                for k, tap in enumerate(taps):
                    total += tap * strip[k : k + len(total)]
    return field


def blur(field: F32, sigma: float) -> F32:
    """Gaussian blur by ``sigma`` pixels; wide ones on a reduced image."""
    if sigma < 0.2:
        return field
    if sigma > _PLAIN_SIGMA:
        height, width = field.shape
        factor = sigma / 1.6
        small = resize(field, max(2, round(height / factor)), max(2, round(width / factor)), Image.Resampling.BOX)
        return resize(blur(np.ascontiguousarray(small), 1.55), height, width, Image.Resampling.BICUBIC)
    reach = max(1, int(np.ceil(2.6 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return _fir(field, (taps / taps.sum()).astype(np.float32))


def smooth_min(a: F32, b: F32, k: F32 | float) -> F32:
    """Polynomial smooth minimum of two fields that rounds over a width ``k``."""
    result: F32 = np.empty(a.shape, np.result_type(a, b, k))
    for rows in strips(a.shape):
        one, other = a[rows], b[rows]
        over = k[rows] if isinstance(k, np.ndarray) else k
        overlap = np.maximum(over - np.abs(one - other), 0)
        result[rows] = np.minimum(one, other) - overlap * overlap / (4 * over)
    return result


def smooth_max(a: F32, b: F32, k: F32 | float) -> F32:
    """Polynomial smooth maximum of two fields."""
    return -smooth_min(-a, -b, k)


def ramp(x: F32, low: float, high: float) -> F32:
    """Cubic step from 0 at ``low`` to 1 at ``high``."""
    result = np.empty_like(x)
    for rows in strips(x.shape):
        t = np.clip((x[rows] - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
        result[rows] = t * t * (3 - 2 * t)
    return result


def draw_lines(points: F32, depth: F32, shape: tuple[int, int], sigma: float) -> F32:
    """Lines as soft ridges of height ``depth`` and gaussian profile.

    ``points`` [C, K, 2] are (column, row) in pixels, ``depth`` [C, K]; ``sigma`` is the profile's width in pixels.
    Lines thinner than a pixel fade as they would in a camera.
    """
    field = np.zeros(shape, np.float32)
    if len(points) == 0:
        return field
    steps = np.diff(points, axis=1)
    lengths = np.hypot(steps[..., 0], steps[..., 1])
    fine = max(2, int(np.ceil(lengths.max() / 0.7)))
    t = ((np.arange(fine) + 0.5) / fine).astype(np.float32)[None, None, :, None]
    places = (points[:, :-1, None] + t * steps[:, :, None]).reshape(-1, 2)
    weights = depth[:, :-1, None] + t[..., 0] * np.diff(depth, axis=1)[:, :, None]
    weights = (weights * (lengths / fine)[:, :, None]).ravel()
    _splat(field, places, weights)
    wide = float(np.hypot(sigma, 0.45))
    return blur(field, wide) * np.float32(np.sqrt(2 * np.pi) * sigma)


def _splat(field: F32, places: F32, weights: F32 | F64) -> None:
    """Add ``weights`` [M] at (column, row) ``places`` [M, 2], shared by the four nearest pixels."""
    height, width = field.shape
    corner = np.floor(places).astype(np.int64)
    part = places - corner
    keep = (corner[:, 0] >= 0) & (corner[:, 1] >= 0) & (corner[:, 0] < width - 1) & (corner[:, 1] < height - 1)
    corner, part, weights = corner[keep], part[keep], weights[keep]
    total = np.zeros(height * width)
    for dx in (0, 1):
        for dy in (0, 1):
            share = weights * (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            total += np.bincount((corner[:, 1] + dy) * width + corner[:, 0] + dx, share, height * width)
    field += total.reshape(height, width).astype(np.float32)


@lru_cache(maxsize=4)
def grain(size: int) -> F32:
    """Band-passed noise [size, size] of unit variance: the texture of skin, the same in every process."""
    noise = stream("grain", size).standard_normal((size, size), dtype=np.float32)
    band = blur(noise, 0.8) - 0.8 * blur(noise, 2.0)
    band /= band.std()
    return band


def patches(rng: np.random.Generator, size: int) -> F32:
    """Smooth noise [size, size] of several octaves and about unit variance."""
    total = np.zeros((size, size), np.float32)
    for octave, weight in ((4, 0.6), (8, 0.6), (16, 0.45), (size, 0.35)):
        coarse = rng.standard_normal((octave, octave), dtype=np.float32)
        total += np.float32(weight) * resize(coarse, size, size, Image.Resampling.BICUBIC)
    return total


def sample(texture: F32, to_texture: F64, shape: tuple[int, int]) -> F32:
    """Sample ``texture`` at affine coordinates: ``to_texture`` [2, 3] takes (column, row, 1) to texture pixels."""
    height, width = shape
    image = Image.fromarray(texture)
    coefficients = tuple(float(c) for c in to_texture.ravel())
    moved = image.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved)
