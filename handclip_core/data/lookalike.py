"""A perceptual hash: equal for the same picture saved again, different for two pictures of similar hands."""

import numpy as np
from PIL import Image

LOOK_DRAFT_PX = 64
SIDE = 64
KEPT = 16


def _dct_matrix() -> np.ndarray:
    position, frequency = np.arange(SIDE) + 0.5, np.arange(KEPT)[:, None]
    matrix: np.ndarray = np.cos(np.pi / SIDE * position * frequency)
    return matrix


def look_of(picture: Image.Image) -> str:
    """The perceptual hash of a picture: 256 bits as 64 hexadecimal digits."""
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    matrix = _dct_matrix()
    spectrum = matrix @ grey @ matrix.T
    bits = spectrum > np.median(spectrum)
    return np.packbits(bits).tobytes().hex()
