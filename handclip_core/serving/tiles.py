"""Sheets of small images in rows, each with lines below."""

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from handclip_core.paths import printable

TILE_PX, TEXT_PX, GAP_PX = 128, 34, 8
LETTERS, LINE_PX = 20, 15
"""Of a line; a tile has room for no more."""
Colour = tuple[int, int, int]


def as_jpeg(rows: Sequence[Sequence[Image.Image]]) -> bytes:
    """Rows of tiles as one JPEG."""
    width, height = TILE_PX + GAP_PX, TILE_PX + TEXT_PX + GAP_PX
    sheet = Image.new("RGB", (max(map(len, rows)) * width + GAP_PX, len(rows) * height + GAP_PX), "white")
    for at, row in enumerate(rows):
        for column, one in enumerate(row):
            sheet.paste(one, (GAP_PX + column * width, GAP_PX + at * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def tile(image: Image.Image | None, lines: Sequence[str], colour: Colour | None = None) -> Image.Image:
    """An image of TILE_PX at most, grey without one, in a frame of ``colour`` and with ``lines`` below."""
    inside = image or Image.new("RGB", (TILE_PX, TILE_PX), (220, 220, 220))
    found = Image.new("RGB", (TILE_PX, TILE_PX + TEXT_PX), "white")
    found.paste(inside, ((TILE_PX - inside.width) // 2, (TILE_PX - inside.height) // 2))
    if colour:
        ImageDraw.Draw(found).rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=colour, width=5)
    _write(found, lines, y=TILE_PX + 2)
    return found


def words(text: str, lines: Sequence[str], colour: Colour | None = None) -> Image.Image:
    """As ``tile`` with a text in the place of the image."""
    found = tile(Image.new("RGB", (TILE_PX, TILE_PX), "white"), lines, colour)
    _write(found, textwrap.wrap(text, LETTERS - 2)[: (TILE_PX - LINE_PX) // LINE_PX], x=8, y=8)
    return found


def _write(image: Image.Image, lines: Sequence[str], *, y: int, x: int = 2) -> None:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=12)
    for number, line in enumerate(lines):
        text = printable(line if len(line) <= LETTERS else f"{line[: LETTERS - 3]}...")
        draw.text((x, y + LINE_PX * number), text, fill=(0, 0, 0), font=font)
