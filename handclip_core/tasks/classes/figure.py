"""The confusion matrix drawn: a PNG image of shares, a row a class and a column what its images are taken for."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handclip_core.paths import printable

MOST_PX, CELL_PX, NUMBERS_FROM_PX = 1600, 36, 30
"""Side of the matrix and of a cell at most, and from which cell on figures are written into it."""
LETTERS, TEXT_PX, GAP_PX = 24, 12, 6
FULL = np.array([11, 92, 173])
"""The colour of 100 %; that of 0 is white."""


def confusion_image(counts: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """A PNG of ``counts`` [P, P], images of a class (rows) by what they are taken for (columns), in percent of a row.

    With many classes the cells have no figures, with very many no names.
    """
    num = len(names)
    side = max(1, min(CELL_PX, MOST_PX // num))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = np.rint(255 + shares[..., None] * (FULL - 255)).astype(np.uint8)
    labels = [_label(name) for name in names] if side > TEXT_PX else []
    margin = 2 * GAP_PX + max((label.width for label in labels), default=0)
    image = Image.new("RGB", (margin + num * side + GAP_PX,) * 2, "white")
    image.paste(Image.fromarray(colours.repeat(side, axis=0).repeat(side, axis=1)), (margin, margin))
    for at, label in enumerate(labels):
        middle = margin + at * side + (side - label.height) // 2
        image.paste(label, (margin - GAP_PX - label.width, middle))
        upright = label.transpose(Image.Transpose.ROTATE_90)
        image.paste(upright, (middle, margin - GAP_PX - upright.height))
    if side >= NUMBERS_FROM_PX:
        _write_shares(image, shares, margin, side)
    ImageDraw.Draw(image).rectangle((margin - 1, margin - 1, *[margin + num * side] * 2), outline=(120, 120, 120))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _write_shares(image: Image.Image, shares: NDArray[np.float64], margin: int, side: int) -> None:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=TEXT_PX)
    for (row, column), share in np.ndenumerate(shares):
        if share:
            place = (margin + (column + 0.5) * side, margin + (row + 0.5) * side)
            draw.text(place, f"{100 * share:.0f}", fill="white" if share > 0.5 else "black", font=font, anchor="mm")


def _label(name: str) -> Image.Image:
    font = ImageFont.load_default(size=TEXT_PX)
    text = printable(name if len(name) <= LETTERS else f"{name[: LETTERS - 3]}...")
    label = Image.new("RGB", (max(1, int(font.getlength(text)) + 1), TEXT_PX + 3), "white")
    ImageDraw.Draw(label).text((0, 0), text, fill="black", font=font)
    return label
