"""Procedurally drawn hands in the layout of 11k Hands."""

from handclip_core.drawn.anatomy import Person, person
from handclip_core.drawn.captions import caption
from handclip_core.drawn.dataset import (
    CAPTION_COLUMNS,
    CAPTIONS_NAME,
    DRAWING_VERSION,
    DrawnArrays,
    draw_arrays,
    write_data_set,
)
from handclip_core.drawn.render import Details, Shot, draw_image

__all__ = [
    "CAPTIONS_NAME",
    "CAPTION_COLUMNS",
    "DRAWING_VERSION",
    "Details",
    "DrawnArrays",
    "Person",
    "Shot",
    "caption",
    "draw_arrays",
    "draw_image",
    "person",
    "write_data_set",
]
