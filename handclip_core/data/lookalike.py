"""The same image in another file: found by a perceptual hash, confirmed on the images themselves.

All hands on a white background resemble each other, so the usual 64-bit hashes take strangers for copies. Two steps are
used instead. First a 256-bit hash: the signs, about their median, of the 16 x 16 lowest frequencies of the image's
cosine transform (pHash, Zauner 2010, with four times the bits). Pairs within NEAR_BITS are candidates only: their
brightness gradients on 64 x 64 cells, where outline, creases and texture remain and tone and light do not, must then
correlate by at least SAME_GRADIENT.

Figures behind the two constants, on 192 drawn hands of 640x480 (``benchmarks/near_duplicates.py``): JPEG quality 40,
half the size by whatever filter, a fifth of the size and a crop of 0.5 % changed at most 14 bits and kept a
correlation of at least 0.950, a crop of 1 % at most 26 bits and 0.847; the nearest two images of one person were 38
bits apart, of two people 46, and no two correlated by more than 0.597. On photographs strangers end at a correlation
of about 0.65, and halves fall below the 0.95 that drawn ones keep. On plain silhouettes, a harder case than any
photograph, the nearest strangers correlated by 0.93, but were too many bits apart. Crops of 2 % or more, turns and
mirror images are not recognised.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

LOOK_DRAFT_PX = 128
NEAR_BITS = 32
SAME_GRADIENT = 0.8
SIDE = 64
KEPT = 16
MAX_PAIRS = 200_000
"""More candidates than this mean images without content, not copies."""
FLAT = 1.0
"""An image whose grey values vary by less shows nothing, so it is never taken for a copy."""
_CHUNK = 256
_WORDS = KEPT * KEPT // 64


def look_of(image: Image.Image) -> str:
    """The perceptual hash of an image: 256 bits as 64 hexadecimal digits."""
    position, frequency = np.arange(SIDE) + 0.5, np.arange(KEPT)[:, None]
    cosines = np.cos(np.pi / SIDE * position * frequency)
    spectrum = cosines @ _grey(image) @ cosines.T
    return np.packbits(spectrum > np.median(spectrum)).tobytes().hex()


def gradient_of(image: Image.Image) -> np.ndarray | None:
    """The centred, normalised brightness gradient of an image [2 * 63 * 63], float32; None if it is flat."""
    grey = _grey(image)
    if grey.std() < FLAT:
        return None
    slopes = np.concatenate([np.diff(grey, axis=0)[:, 1:].ravel(), np.diff(grey, axis=1)[1:].ravel()])
    slopes -= slopes.mean()
    normalised: np.ndarray = (slopes / np.linalg.norm(slopes)).astype(np.float32)
    return normalised


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)


def near_pairs(looks: np.ndarray, left: np.ndarray, right: np.ndarray, *, limit: int = MAX_PAIRS) -> np.ndarray:
    """Candidates for the same image: pairs of rows, int64 [n, 2], whose hashes differ by at most NEAR_BITS.

    ``looks`` [N] are hexadecimal hashes; every row of ``left`` is compared with every row of ``right``. At most
    ``limit`` + 1 pairs are returned, so that a caller sees when there were more.
    """
    words = np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint64).reshape(len(looks), _WORDS)
    found: list[np.ndarray] = []
    num_found = 0
    for start in range(0, len(left), _CHUNK):
        part = left[start : start + _CHUNK]
        distance = np.zeros((len(part), len(right)), dtype=np.uint16)
        for word in range(_WORDS):
            distance += np.bitwise_count(words[part, None, word] ^ words[None, right, word])
        i, j = np.nonzero(distance <= NEAR_BITS)
        found.append(np.stack([part[i], right[j]], axis=1))
        num_found += len(i)
        if num_found > limit:
            break
    pairs = np.concatenate(found) if found else np.empty((0, 2))
    return pairs[: limit + 1].astype(np.int64)


def same_pairs(pairs: np.ndarray, gradient: Callable[[int], np.ndarray | None]) -> np.ndarray:
    """Those of the candidate ``pairs`` [n, 2] whose gradients correlate by SAME_GRADIENT or more, int64 [m, 2].

    ``gradient`` gives `gradient_of` the image of a row; it is asked once a row.
    """
    known = {int(row): gradient(int(row)) for row in np.unique(pairs)}
    kept = [pair for pair in pairs.tolist() if _correlation(known[pair[0]], known[pair[1]]) >= SAME_GRADIENT]
    return np.array(kept, dtype=np.int64).reshape(-1, 2)


def _correlation(first: np.ndarray | None, second: np.ndarray | None) -> float:
    return -1.0 if first is None or second is None else float(first @ second)
