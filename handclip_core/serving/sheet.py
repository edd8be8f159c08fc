"""A contact sheet: each query image beside the enrolled images that it is most like."""

from pathlib import Path

from PIL import Image

from handclip_core.errors import InputError
from handclip_core.serving.identify import Answer, Decision, Identified
from handclip_core.serving.images import decode
from handclip_core.serving.tiles import TILE_PX, as_jpeg, tile

SHOWN, MOST_ROWS = 5, 200
COLOURS = {
    Decision.ACCEPT: (0, 114, 178),
    Decision.REJECT: (213, 94, 0),
    Decision.UNKNOWN: (230, 159, 0),
    Decision.NONE: (120, 120, 120),
}
"""Of the frame around a query (Okabe and Ito's, which the colour-blind tell apart); the word stands below, too."""


def contact_sheet(answer: Answer, path: Path) -> None:
    """Write a JPEG with a row a query: the first MOST_ROWS of them, each with its SHOWN best people."""
    path.write_bytes(as_jpeg([_tiles(result) for result in answer.results[:MOST_ROWS]]))


def _tiles(result: Identified) -> list[Image.Image]:
    lines = [Path(result.image).name, result.decision.value]
    query = tile(_thumbnail(result.image), lines, COLOURS[result.decision])
    people = [
        tile(_thumbnail(candidate.image), [candidate.identity, f"{rank}. {candidate.score:.4f}"])
        for rank, candidate in enumerate(result.candidates[:SHOWN], start=1)
    ]
    return [query, *people]


def _thumbnail(image: str) -> Image.Image | None:
    """A small image; None if the file is not there any more, or unreadable."""
    try:
        found = Image.fromarray(decode(image, size_px=TILE_PX))
    except InputError:
        return None
    found.thumbnail((TILE_PX, TILE_PX))
    return found
