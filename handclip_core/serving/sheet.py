"""A contact sheet: each query image beside the enrolled images that it is most like."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from handclip_core.errors import InputError
from handclip_core.paths import printable
from handclip_core.serving.identify import Answer, Decision, Identified
from handclip_core.serving.images import decode

TILE_PX, TEXT_PX, GAP_PX = 128, 34, 8
SHOWN, MOST_ROWS = 5, 200
LETTERS = 20
"""Of a name; a tile has room for no more."""
COLOURS = {
    Decision.ACCEPT: (0, 114, 178),
    Decision.REJECT: (213, 94, 0),
    Decision.UNKNOWN: (230, 159, 0),
    Decision.NONE: (120, 120, 120),
}
"""Of the frame around a query (Okabe and Ito's, which the colour-blind tell apart); the word stands below, too."""


def contact_sheet(answer: Answer, path: Path) -> None:
    """Write a JPEG with a row a query: the first MOST_ROWS of them, each with its SHOWN best people."""
    results = answer.results[:MOST_ROWS]
    columns = 1 + max(min(SHOWN, len(result.candidates)) for result in results)
    width, height = TILE_PX + GAP_PX, TILE_PX + TEXT_PX + GAP_PX
    sheet = Image.new("RGB", (columns * width + GAP_PX, len(results) * height + GAP_PX), "white")
    for row, result in enumerate(results):
        for column, tile in enumerate(_tiles(result)):
            sheet.paste(tile, (GAP_PX + column * width, GAP_PX + row * height))
    sheet.save(path, "JPEG", quality=88)


def _tiles(result: Identified) -> list[Image.Image]:
    query = _tile(result.image, [Path(result.image).name, result.decision.value], COLOURS[result.decision])
    people = [
        _tile(candidate.image, [candidate.identity, f"{rank}. {candidate.score:.4f}"], None)
        for rank, candidate in enumerate(result.candidates[:SHOWN], start=1)
    ]
    return [query, *people]


def _tile(image: str, lines: Sequence[str], colour: tuple[int, int, int] | None) -> Image.Image:
    tile = Image.new("RGB", (TILE_PX, TILE_PX + TEXT_PX), "white")
    draw = ImageDraw.Draw(tile)
    thumbnail = _thumbnail(image)
    tile.paste(thumbnail, ((TILE_PX - thumbnail.width) // 2, (TILE_PX - thumbnail.height) // 2))
    if colour:
        draw.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), outline=colour, width=5)
    for number, line in enumerate(lines):
        text = printable(line if len(line) <= LETTERS else f"{line[: LETTERS - 3]}...")
        draw.text((2, TILE_PX + 2 + 15 * number), text, fill=(0, 0, 0), font=ImageFont.load_default(size=12))
    return tile


def _thumbnail(image: str) -> Image.Image:
    """A small image; grey if the file is not there any more, or unreadable."""
    try:
        found = Image.fromarray(decode(image, size_px=TILE_PX))
    except InputError:
        return Image.new("RGB", (TILE_PX, TILE_PX), (220, 220, 220))
    found.thumbnail((TILE_PX, TILE_PX))
    return found
