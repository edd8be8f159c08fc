"""``search``: images found by a text or by another image."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from handclip_core.errors import InputError
from handclip_core.paths import input_folder, output_folder, printable


def search(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; with --like, of an ensemble too.")],
    images: Annotated[Path, typer.Option(help="Folder of the images to search, with all folders in it.")],
    text: Annotated[str | None, typer.Argument(help="What the images show: 'the palm of a left hand'.")] = None,
    like: Annotated[Path | None, typer.Option(help="An image whose like is searched, in place of a text.")] = None,
    num: Annotated[int, typer.Option("--num", "-k", min=1, max=1000, help="Images to find.")] = 10,
    sheet: Annotated[Path | None, typer.Option(help="JPEG file to write the images found to.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
) -> None:
    """Find images by a text, or by another image, and print their scores and paths."""
    if (text is None) == (like is None):
        raise InputError("name either a text or --like IMAGE")
    run, images = (input_folder(one, mend=mend) for one, mend in ((run, "name a run"), (images, "name images")))
    if sheet is not None:
        output_folder(sheet.parent, option="--sheet")
        if sheet.suffix.lower() not in (".jpg", ".jpeg"):
            raise InputError(f"--sheet {sheet}: name a .jpg file")
    from handclip_core.devices import select_device
    from handclip_core.serving.text_search import Searcher, contact_sheet

    searcher = Searcher(run, device=select_device(device))
    query = searcher.text(text) if text is not None else searcher.image(like or Path())
    found = searcher.find(query, images, num=num)
    for line in found.unreadable:
        print(f"unreadable: {printable(line)}", file=sys.stderr)
    for hit in found.hits:
        print(f"{hit.score:.4f}  {images / printable(hit.path)}")
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(found, images, sheet)
        print(f"wrote {sheet}", file=sys.stderr)
