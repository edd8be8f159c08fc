"""Opening unchecked images: every file becomes 8-bit RGB, upright, or is refused with its reason."""

import io
import os
import stat
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from handclip_core.documents import shortened
from handclip_core.errors import InputError
from handclip_core.paths import fault_of

AVIF = frozenset({".avif"}) if features.check("avif") else frozenset()
HEIF = frozenset({".heic", ".heif", ".hif"}) if find_spec("pillow_heif") else frozenset()
if HEIF:
    import_module("pillow_heif").register_heif_opener()
FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "PPM",
    *(["AVIF"] if AVIF else []), *(["HEIF"] if HEIF else []),
)  # fmt: skip
SUFFIXES = AVIF | HEIF | frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".j2k", ".jpx",
    ".jpf", ".j2c", ".ppm", ".pgm", ".pnm", ".pbm",
})  # fmt: skip
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")
UNREAD = {
    ".heic": "`pip install pillow-heif` lets HEIC be read; or save them as JPEG",
    ".heif": "`pip install pillow-heif` lets HEIF be read; or save them as JPEG",
    ".hif": "`pip install pillow-heif` lets HEIF be read; or save them as JPEG",
    ".avif": "Pillow has no AVIF here; save them as JPEG or PNG",
    **dict.fromkeys(RAW, "raw images of a camera are not read; save them as JPEG or PNG"),
    **dict.fromkeys((".psd", ".svg", ".jxl", ".exr", ".ico"), "a format that is not read; save them as JPEG or PNG"),
}
"""What to do with images by their endings, unless those are among SUFFIXES on this machine."""
LARGE_PIXELS = 25_000_000
"""Images of more pixels are decoded one at a time in a process, and made smaller before anything else is done."""
MAX_PIXELS = 120_000_000
"""Above this a file is taken for a decompression bomb; phone cameras reach 108 million. They take 0.4 GB while they are
decoded."""
MAX_PIXELS_VARIABLE = "HANDCLIP_MAX_PIXELS"
"""The environment variable that puts another number in its place, so that less memory is enough."""
MAX_BYTES = 512 * 1024 * 1024
MIN_SIDE_PX = 8
"""A smaller image shows no hand."""

# Pillow warns below its own limit; ours is checked here, and a filter set around each call would not be thread-safe.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


_in_turn = threading.Lock()


def max_pixels() -> int:
    """Pixels of the largest image that is decoded; raises InputError if the environment names no number."""
    given = os.environ.get(MAX_PIXELS_VARIABLE, str(MAX_PIXELS))
    if not given.isdecimal() or int(given) < MIN_SIDE_PX**2:
        raise InputError(f"{MAX_PIXELS_VARIABLE}: '{shortened(given, 40)}' is no number of pixels, as {MAX_PIXELS}")
    return int(given)


class BadImageError(InputError):
    """A file that is not a usable image; the message is the reason, without the path."""


def read_image(path: Path) -> bytes:
    """The bytes of an image file; raises BadImageError if it cannot be read, is empty or absurdly large."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise BadImageError("is no plain file (a device, pipe or socket)")
        size = found.st_size
        if size > MAX_BYTES:
            raise BadImageError(f"{size / 2**20:.0f} MiB, more than the {MAX_BYTES / 2**20:.0f} that an image may have")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadImageError("no such file") from None
    except IsADirectoryError:
        raise BadImageError("is a folder, not a file") from None
    except PermissionError:
        raise BadImageError("no permission to read it") from None
    except OSError as error:
        raise BadImageError(f"cannot be read: {fault_of(error)}") from None
    if not data:
        raise BadImageError("empty file (zero bytes)")
    return data


def decode_rgb(data: bytes, *, draft_px: int | None = None) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    With ``draft_px`` a JPEG is decoded at the smallest of 1/8, 1/4, 1/2, 1/1 that keeps both sides at or above it,
    which costs a fraction of the whole image; of other images of more than LARGE_PIXELS whole squares of pixels are
    averaged as long as both sides stay at twice that. EXIF rotation is applied; grey, palette, CMYK and 16-bit images
    are converted, 10, 12 or 14 bits in a 16-bit file by their own range; transparency is laid on white. Raises
    BadImageError for whatever is corrupt, truncated, animated, of another kind, smaller than MIN_SIDE_PX or larger than
    ``max_pixels``.
    """
    most = max_pixels()
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image, most)
        if draft_px is not None:
            image.draft("RGB", (draft_px, draft_px))
        is_deep = ";16" in str(getattr(image, "tile", "")) and image.mode in ("RGB", "RGBA", "LA")
        is_large = image.width * image.height > LARGE_PIXELS
        with _in_turn if is_large else nullcontext():
            image.load()
            if is_deep:
                _check_deep(image)
            image = _reduced(image, draft_px) if is_large and draft_px is not None else image
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError(f"not an image of a kind that is read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise BadImageError(f"decompression bomb: more than {most:,} pixels") from None
    except _PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"corrupt or truncated ({reason})") from None


def _check_header(image: Image.Image, most: int) -> None:
    width, height = image.size
    if width * height > most:
        what = "decompression bomb" if width * height > MAX_PIXELS else f"larger than {MAX_PIXELS_VARIABLE} allows"
        raise BadImageError(f"{what}: {width} x {height} pixels, more than {most:,}")
    if min(width, height) < MIN_SIDE_PX:
        raise BadImageError(f"{width} x {height} pixels: no side may be under {MIN_SIDE_PX}")
    # MPO is a JPEG in which phones put a thumbnail or a gain map behind the image; that is no animation.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise BadImageError(
            f"animated or of several pages ({getattr(image, 'n_frames', 1)}); one still image is needed"
        )


def _check_deep(image: Image.Image) -> None:
    """Refuse an image of 16 bits a channel, of which Pillow keeps the upper 8, if those are hardly used."""
    colours = np.asarray(image)[..., : len(image.mode.rstrip("A"))]
    if int(colours.max()) < 2**4:
        raise BadImageError("16 bits a channel of which 12 are used at most: nearly black; save it with 8 bits")


def _reduced(image: Image.Image, draft_px: int) -> Image.Image:
    """``image``, smaller by a whole factor, with both sides at twice ``draft_px`` or more."""
    factor = min(image.size) // (2 * draft_px)
    if factor < 2 or image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        return image
    exif = image.getexif()
    smaller = image.reduce(factor)
    smaller.getexif().update(exif)
    return smaller


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow's own conversion clips at 255 instead of scaling.
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImageError("32-bit pixels without a known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits [H, W] as uint8; if none of them needs more than 8, 10, 12 or 14 bits, by that range."""
    used = int(grey.max()).bit_length()
    shift = max(0, used + used % 2 - 8)
    eight: np.ndarray = (grey >> shift).astype(np.uint8)
    return eight
