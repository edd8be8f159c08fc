"""Questions with the answers to them as rows of images and words, and the images themselves, small."""

import base64
import io
import shlex
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pictures

from handclip_core.data.images import BadImageError, decode_rgb, read_image
from handclip_core.data.manifest import Prepared, load_prepared
from handclip_core.data.sources import DrawnData, PreparedData, data_folder
from handclip_core.errors import InputError
from handclip_core.evaluation.questions import Item, Panel, Questions
from handclip_core.paths import cache_root
from tune_jobs.reporting.page import Image, Strip, percent
from tune_jobs.reporting.summary import program, shown
from tune_jobs.storage.location import StorageLocation

SIDE_PX = 96
MARKS = {True: "right", False: "wrong", None: ""}


def data_here(data: DrawnData | PreparedData) -> Prepared | None:
    """The prepared data, None if they are not on this machine or are not readable."""
    try:
        return load_prepared(data_folder(data, cache=cache_root()))
    except InputError:
        return None


def no_data(sweep: StorageLocation) -> str:
    """That the data are elsewhere, and what to run there."""
    storage = f"--storage {shlex.quote(shown(sweep.parent))}"
    review = f"{program('review')} {shlex.quote(sweep.name)} {storage}"
    return f"The data are not on this machine: write the report where they are, with {review}"


def extremes(questions: Questions, data: Prepared) -> list[Strip]:
    """The two worst questions of each part, the one in the middle and the best one, with the answers to them.

    Of few questions each is shown once.
    """
    strips = []
    for name, part in questions.parts.items():
        order = (part.start + np.argsort(questions.quality[part.start : part.stop], kind="stable")).tolist()
        labels = dict[int, str]()
        for place, label in ((len(order) - 1, "best"), (0, "worst"), (len(order) // 2, "median"), (1, "worst")):
            if 0 <= place < len(order):
                labels.setdefault(order[place], label)
        what = f"{name}: " if len(questions.parts) > 1 else ""
        for at in (one for one in order if one in labels):
            caption = f"{what}{labels[at]} query, average precision {percent(float(questions.quality[at]))}:"
            strips.append(strip(questions.panel(at), f"{caption[0].upper()}{caption[1:]}", data))
    return strips


def strip(panel: Panel, caption: str, data: Prepared) -> Strip:
    """The question, then the answers."""
    asked = panel.question
    question = Item(f"query: {asked.text}" if asked.text else "query", asked.row)
    return Strip(caption=caption, images=cards([question, *panel.answers], data))


def cards(items: Sequence[Item], data: Prepared) -> tuple[Image, ...]:
    """Each as a small image with a line below, or as words."""
    return tuple(
        Image(source="" if item.row is None else thumbnail(data, item.row), caption=item.text, mark=MARKS[item.right])
        for item in items
    )


def thumbnail(data: Prepared, row: int) -> str:
    """A small version of the image in a ``row`` of the manifest, as a ``data:`` URI."""
    image = small_image(data, row, side_px=SIDE_PX)
    if image is None:
        return "data:,"  # moved away since: the caption stays
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def small_image(data: Prepared, row: int, *, side_px: int) -> Pictures.Image | None:
    """The image in a ``row`` of the manifest with sides of ``side_px`` at most; None if it cannot be read."""
    try:
        image = decode_rgb(read_image(data.root / str(data.manifest["path"].iloc[row])), draft_px=side_px)
    except BadImageError:
        return None
    image.thumbnail((side_px, side_px))
    return image
