"""Images to be embedded: found below paths, decoded as training decoded them, the unreadable ones listed."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from handclip_core.data.framing import Form, Frame
from handclip_core.data.images import MIN_SIDE_PX, SUFFIXES, BadImageError, decode_rgb, read_image
from handclip_core.data.pixels import SQUASHED
from handclip_core.errors import InputError
from handclip_core.paths import shown_path, user_path

Pixels = NDArray[np.uint8]
Image = Path | str | bytes | Pixels


@dataclass
class Squares:
    """Readable images: their ``names`` [n] and pixels, and why others could not be read, by name.

    An image's pixels are squares [S, S, 3], one for each form in which the model reads it.
    """

    names: list[str] = field(default_factory=list)
    pixels: list[tuple[Pixels, ...]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def arrays(self, places: Sequence[int] | None = None) -> tuple[Pixels, ...]:
        """The pixels of all images, or of those at ``places``, as an array [n, S, S, 3] for each form."""
        chosen = self.pixels if places is None else [self.pixels[place] for place in places]
        return tuple(np.stack(squares) for squares in zip(*chosen, strict=True))

    def warn(self) -> None:
        """Name on stderr what could not be read."""
        warn(self.unreadable)


def warn(unreadable: Mapping[str, str]) -> None:
    """Name on stderr the images that could not be read, and why."""
    for name, reason in unreadable.items():
        print(f"unreadable: {shown_path(name)}: {reason}", file=sys.stderr)


def decode(image: Path | str | bytes, *, size_px: int, frame: Frame = SQUASHED) -> Pixels:
    """An image as uint8 RGB [H, W, 3], as training decoded it: a large JPEG at the fraction that ``size_px`` allows.

    The embedding of this array is that of the file. One of all pixels of a large JPEG differs by the rounding of two
    resizings. Raises BadImageError.
    """
    data = image if isinstance(image, bytes) else read_image(user_path(image))
    return np.asarray(decode_rgb(data, draft_px=size_px if frame.reads_fractions else None))


def read_square(image: Image, frame: Frame, size_px: int) -> Pixels:
    """An image as the square uint8 [S, S, 3] that a tower of ``size_px`` reads; raises BadImageError."""
    pixels = image if isinstance(image, np.ndarray) else decode(image, size_px=size_px, frame=frame)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadImageError(f"an array {pixels.dtype} {list(pixels.shape)}; RGB images are uint8 [H, W, 3]")
    if min(pixels.shape[:2]) < MIN_SIDE_PX:
        raise BadImageError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels: no side may be under {MIN_SIDE_PX}")
    return np.asarray(frame.square(PillowImage.fromarray(pixels), size_px))


def read_squares(paths: Sequence[Path], forms: Sequence[Form]) -> Squares:
    """The readable ones of ``paths`` as squares, in each of ``forms``; raises InputError if none can be read."""
    found = Squares()
    for path in paths:
        try:
            squares = tuple(read_square(path, form.frame, form.size_px) for form in forms)
        except InputError as error:
            found.unreadable[str(path)] = str(error)
            continue
        found.names.append(str(path))
        found.pixels.append(squares)
    if not found.pixels:
        found.warn()
        raise InputError(f"none of {len(paths)} images can be read")
    return found


def images_below(given: Sequence[Path]) -> list[Path]:
    """The files named, and the images in the folders named and below them, in order of names and once each.

    A file that is named is taken whatever its ending. Raises InputError for a path that is not there, a folder without
    images, and no path at all.
    """
    found: dict[Path, None] = {}
    for one in given:
        path = user_path(one)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if is_image(file))
            if not inside:
                raise InputError(f"{shown_path(path)}: no image in this folder or below it")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{shown_path(path)}: no such file or folder")
    if not found:
        raise InputError("no images: name files or folders")
    return list(found)


def is_image(path: Path) -> bool:
    """Whether a file's ending is that of an image, and it is none that a system hides."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
