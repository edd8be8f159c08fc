"""``prepare``: from images as distributed to a manifest and a protocol."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from handclip_core.errors import InputError
from handclip_core.paths import output_folder

if TYPE_CHECKING:
    from handclip_core.data.manifest import Prepared

app = typer.Typer(help="Read a data set, check every image, cut identities, draw gallery splits.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="Folder of the images.")]
Out = Annotated[Path, typer.Option(help="Folder to write manifest.csv and protocol.json to.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the validation cut and of every draw.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="List bad images and leave them out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")]
CutName = Annotated[
    Literal["published", "common"], typer.Option(help="The papers' thresholds an aspect, or one clean threshold.")
]

ROWS = (
    ("search: trained on", "search", "{train} of {train_ids}"),
    ("search: validated on", "search", "{val} of {val_ids}"),
    ("  queries in gallery", "search", "{query} in {gallery}"),
    ("final fit: trained on", "aspects", "{train_all} of {train_all_ids}"),
    ("final test: tested on", "aspects", "{test} of {test_ids}"),
    ("  queries in gallery", "aspects", "{query} in {gallery}"),
    ("  gallery, all aspects", "aspects", "{gallery_all}"),
    ("papers: train, validate", "aspects", "{train}, {val}"),
)
"""The table of counts: what a row says, and the part and the texts of `counts` that it is made of."""


@app.command("drawn")
def prepare_drawn(
    root: Annotated[Path, typer.Argument(help="Folder to draw the images into, in the layout of 11k Hands.")],
    out: Out,
    people: Annotated[int, typer.Option(min=8, help="Identities; half of them are test identities.")] = 48,
    images_per_aspect: Annotated[int, typer.Option(min=2, help="Images of each aspect of an identity.")] = 5,
    height_px: Annotated[int, typer.Option(min=96, max=2400, help="Height of an image; 1200 is the real size.")] = 240,
    sittings: Annotated[int, typer.Option(min=1, help="Sittings that an aspect's images are dealt out to.")] = 1,
    cut: CutName = "common",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a procedural hand data set and prepare it."""
    from handclip_core.data.eleven_k import prepare_eleven_k
    from handclip_core.data.manifest import Cut
    from handclip_core.drawn import write_data_set

    root, out = output_folder(root, option="ROOT"), output_folder(out, option="--out")
    write_data_set(
        root, people=people, images_per_aspect=images_per_aspect, height_px=height_px, sittings=sittings, seed=seed
    )
    _report(prepare_eleven_k(root, out, cut=Cut(cut), seed=seed, source="drawn"), as_json=as_json)


@app.command("11k")
def prepare_11k(
    root: Root, out: Out, cut: CutName = "published", seed: Seed = 0, skip_bad: SkipBad = False, as_json: AsJson = False
) -> None:
    """Prepare 11k Hands as distributed: HandInfo.csv beside Hands/."""
    from handclip_core.data.eleven_k import prepare_eleven_k
    from handclip_core.data.manifest import Cut

    out = output_folder(out, option="--out")
    _report(prepare_eleven_k(root, out, cut=Cut(cut), seed=seed, skip_bad=skip_bad), as_json=as_json)


@app.command("hd")
def prepare_hd(root: Root, out: Out, seed: Seed = 0, skip_bad: SkipBad = False, as_json: AsJson = False) -> None:
    """Prepare HD (PolyU contactless hand dorsal): 1-501/ and 502-712/."""
    from handclip_core.data import hd

    out = output_folder(out, option="--out")
    _report(hd.prepare_hd(root, out, seed=seed, skip_bad=skip_bad), as_json=as_json)


@app.command("classes")
def prepare_classes_of_images(
    root: Annotated[Path, typer.Argument(help="<class>/<image>, or train|val|test/<class>/<image>.")],
    out: Out,
    table: Annotated[Path | None, typer.Option(help="CSV of the images; none for a folder a class.")] = None,
    path_column: Annotated[str, typer.Option(help="The table's column of paths under ROOT.")] = "path",
    class_column: Annotated[str, typer.Option(help="The table's column of classes.")] = "class",
    split_column: Annotated[str | None, typer.Option(help="The table's column of splits.")] = None,
    group_column: Annotated[str | None, typer.Option(help="The table's column of what stays in one split.")] = None,
    names: Annotated[Path | None, typer.Option(help="Names of classes: lines of folder,name.")] = None,
    val_share: Annotated[float, typer.Option(help="Part of each class that validates, if folders do not say.")] = 0.15,
    test_share: Annotated[float, typer.Option(help="Part of each class that is tested, if folders do not say.")] = 0.25,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Prepare images of one folder a class, or those of a table, for the task classes."""
    from handclip_core.tasks.classes.data import read_class_data
    from handclip_core.tasks.classes.prepare import Columns, Shares, prepare_classes

    prepared = prepare_classes(
        root,
        output_folder(out, option="--out"),
        table=table,
        columns=Columns(path_column, class_column, split_column, group_column),
        names=names,
        seed=seed,
        shares=Shares(val=val_share, test=test_share),
        skip_bad=skip_bad,
    )
    for line in (*prepared.protocol.skipped, *prepared.protocol.notes):
        print(f"note: {line}", file=sys.stderr)
    data = read_class_data(prepared)
    print(data.counts())
    print("what CLIP reads of the first classes:", *(f"  {line}" for line in data.prompts(5)), sep="\n")
    print(f"wrote manifest.csv, protocol.json and classes.json into {prepared.folder}")


@app.command("captions")
def prepare_captions_of_images(
    root: Annotated[
        Path, typer.Argument(help="Folder of the images; captions in .txt or .json beside each, if no file.")
    ],
    out: Out,
    annotations: Annotated[
        Path | None,
        typer.Option(help="JSON with splits, COCO or Karpathy JSON, .jsonl of file_name and text, or a .csv or .tsv."),
    ] = None,
    path_column: Annotated[str, typer.Option(help="A table's column of paths under ROOT.")] = "filepath",
    caption_column: Annotated[str, typer.Option(help="A table's column of captions, a row each.")] = "title",
    split_column: Annotated[str | None, typer.Option(help="A table's column of splits.")] = None,
    val_share: Annotated[float, typer.Option(help="Part of the images that validates, if nothing says so.")] = 0.1,
    test_share: Annotated[float, typer.Option(help="Part of the images that is tested, if nothing says so.")] = 0.2,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Prepare images with captions, for the task captions."""
    from handclip_core.tasks.captions.data import CaptionData
    from handclip_core.tasks.captions.prepare import Shares, prepare_captions
    from handclip_core.tasks.captions.readers import Columns
    from handclip_core.tasks.captions.table import read_pairs

    prepared = prepare_captions(
        root,
        output_folder(out, option="--out"),
        annotations=annotations,
        columns=Columns(path_column, caption_column, split_column),
        seed=seed,
        shares=Shares(val=val_share, test=test_share),
        skip_bad=skip_bad,
    )
    for line in (*prepared.protocol.skipped, *prepared.protocol.notes):
        print(f"note: {line}", file=sys.stderr)
    for line in prepared.protocol.warnings:
        print(f"WARNING: {line}", file=sys.stderr)
    print(*CaptionData(prepared, read_pairs(prepared)).counts(), sep="\n")
    print(f"wrote manifest.csv, protocol.json and captions.json into {prepared.folder}")


@app.command("folder")
def prepare_folder(
    root: Root,
    out: Out,
    table: Annotated[Path | None, typer.Option(help="CSV of the images; none for folders IDENTITY/IMAGE.")] = None,
    path_column: Annotated[str, typer.Option(help="The table's column of paths under ROOT.")] = "path",
    identity_column: Annotated[str, typer.Option(help="The table's column of identities.")] = "identity",
    aspect_column: Annotated[str | None, typer.Option(help="The table's column of aspects.")] = None,
    session_column: Annotated[str | None, typer.Option(help="The table's column of sessions.")] = None,
    name_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression of the names of images in any folder, with (?P<identity>...)."),
    ] = None,
    test_share: Annotated[float, typer.Option(help="Share of the identities that are tested.")] = 0.5,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Prepare your own images."""
    from handclip_core.data import folder

    prepared = folder.prepare_folder(
        root,
        output_folder(out, option="--out"),
        table=table,
        path_column=path_column,
        identity_column=identity_column,
        aspect_column=aspect_column,
        session_column=session_column,
        name_pattern=name_pattern,
        seed=seed,
        skip_bad=skip_bad,
        test_share=test_share,
    )
    _report(prepared, as_json=as_json)


@app.command("check")
def check(folder: Annotated[Path, typer.Argument(help="Folder that `prepare` wrote.")]) -> None:
    """Look for people, files or images on both sides of a split."""
    from handclip_core.data.leaks import check_leaks
    from handclip_core.data.manifest import load_prepared

    prepared = load_prepared(folder)
    check_leaks(prepared)
    print(f"{folder}: no leak among {len(prepared.manifest)} images")


def _report(prepared: "Prepared", *, as_json: bool) -> None:
    """Print counts (as JSON or as a table), notes, and loudly if the published counts differ."""
    from handclip_core.data.counts import count_differences, counts
    from handclip_core.data.leaks import check_leaks

    try:
        check_leaks(prepared)
    except InputError as error:
        print(f"WARNING: not to be trained on as it is: {error}", file=sys.stderr)
    found = counts(prepared)
    differences = count_differences(prepared)
    for line in (*prepared.protocol.skipped, *prepared.protocol.notes):
        print(f"note: {line}", file=sys.stderr)
    for line in (*prepared.protocol.warnings, *differences):
        print(f"WARNING: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(found | {"differences": differences}))
        return
    _print_counts(found, num_draws=len(prepared.protocol.draws["test"]))
    print(f"wrote {prepared.folder / 'manifest.csv'} and {prepared.folder / 'protocol.json'}")


def _print_counts(found: dict[str, Any], *, num_draws: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("images of people", *found["aspects"], header_style="", box=None, padding=(0, 2, 0, 0))
    for told, part, texts in ROWS:
        table.add_row(told, *(texts.format_map(values) for values in found[part].values()))
    beside = f", and {found['distractors']} of others who only stand in galleries" if found["distractors"] else ""
    print(f"{found['images']} images of {found['identities']} people{beside}")
    Console(soft_wrap=True).print(table)
    draws = "one draw" if num_draws == 1 else f"{num_draws} draws"
    print(f"gallery: known images of each person and aspect; query: images that are looked up in it; {draws} of them")
