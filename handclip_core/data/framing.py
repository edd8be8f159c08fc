"""From an image of any shape to the square that a backbone sees."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from PIL import Image

Interpolation = Literal["bicubic", "bilinear"]
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Framing(StrEnum):
    """How an image becomes square.

    ``squash`` squeezes it whole, as the published code on hands does; ``crop`` resizes its shorter side and takes the
    middle, as CLIP was trained; ``pad`` resizes its longer side and fills the rest.
    """

    SQUASH = "squash"
    CROP = "crop"
    PAD = "pad"


@dataclass(frozen=True)
class Frame:
    """What a backbone wants done to an image; the size comes with the call."""

    framing: Framing = Framing.SQUASH
    interpolation: Interpolation = "bicubic"
    fill: int = 0
    """Grey level of what ``pad`` adds."""

    @property
    def reads_fractions(self) -> bool:
        """Whether a JPEG may be decoded at a fraction of its size; not to be off by more than rounding, it may not."""
        return self.framing is Framing.SQUASH

    def square(self, image: Image.Image, size_px: int) -> Image.Image:
        """``image``, RGB, as a square of ``size_px``: the arithmetic of open_clip's transform."""
        if self.framing is Framing.SQUASH:
            return image.resize((size_px, size_px), _RESAMPLING[self.interpolation])
        if self.framing is Framing.CROP:
            return self._cropped(image, size_px)
        return self._padded(image, size_px)

    def _cropped(self, image: Image.Image, size_px: int) -> Image.Image:
        short, long = min(image.size), max(image.size)
        longer = int(size_px * long / short)
        width, height = (size_px, longer) if image.width <= image.height else (longer, size_px)
        resized = image.resize((width, height), _RESAMPLING[self.interpolation])
        left, top = round((width - size_px) / 2), round((height - size_px) / 2)
        return resized.crop((left, top, left + size_px, top + size_px))

    def _padded(self, image: Image.Image, size_px: int) -> Image.Image:
        ratio = max(image.size) / size_px
        width, height = (max(1, round(side / ratio)) for side in image.size)
        square = Image.new("RGB", (size_px, size_px), (self.fill,) * 3)
        resized = image.resize((width, height), _RESAMPLING[self.interpolation])
        square.paste(resized, ((size_px - width) // 2, (size_px - height) // 2))
        return square


@dataclass(frozen=True)
class Form:
    """What an image tower reads: images that a ``frame`` made squares of ``size_px``."""

    frame: Frame
    size_px: int
