"""Opening unchecked images: every file becomes 8-bit RGB, upright, or is refused with its reason."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from handclip_core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 120_000_000
"""Above this a file is taken for a decompression bomb; phone cameras reach 108 million."""
MAX_BYTES = 512 * 1024 * 1024
MIN_SIDE_PX = 8
"""A smaller image shows no hand."""

# Pillow warns below its own limit; ours is checked here, and a filter set around each call would not be thread-safe.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class BadImageError(InputError):
    """A file that is not a usable image; the message is the reason, without the path."""


def read_image(path: Path) -> bytes:
    """The bytes of an image file; raises BadImageError if it cannot be read, is empty or absurdly large."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadImageError(f"{size / 2**20:.0f} MiB, more than the {MAX_BYTES / 2**20:.0f} that an image may have")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadImageError("no such file") from None
    except IsADirectoryError:
        raise BadImageError("is a folder, not a file") from None
    except PermissionError:
        raise BadImageError("no permission to read it") from None
    except (OSError, RuntimeError) as error:
        raise BadImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise BadImageError("empty file (zero bytes)")
    return data


def decode_rgb(data: bytes, *, draft_px: int | None = None) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    With ``draft_px`` a JPEG is decoded at the smallest of 1/8, 1/4, 1/2, 1/1 that keeps both sides at or above it,
    which costs a fraction of the whole image. EXIF rotation is applied; grey, palette, CMYK and 16-bit images are
    converted; transparency is laid on white. Raises BadImageError for whatever is corrupt, truncated, animated, of
    another kind, smaller than MIN_SIDE_PX or larger than MAX_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_header(image)
        if draft_px is not None:
            image.draft("RGB", (draft_px, draft_px))
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError(f"not an image of a kind that is read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise BadImageError(f"decompression bomb: more than {MAX_PIXELS:,} pixels") from None
    except _PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"corrupt or truncated ({reason})") from None


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"decompression bomb: {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if min(width, height) < MIN_SIDE_PX:
        raise BadImageError(f"{width} x {height} pixels: no side may be under {MIN_SIDE_PX}")
    # MPO is a JPEG in which phones put a thumbnail or a gain map behind the image; that is no animation.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise BadImageError(
            f"animated or of several pages ({getattr(image, 'n_frames', 1)}); one still image is needed"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImageError("32-bit pixels without a known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
