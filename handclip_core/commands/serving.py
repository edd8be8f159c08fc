"""``embed``, ``enrol``, ``identify``, ``verify``, ``calibrate``, ``export``: a finished run in use."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from handclip_core.errors import InputError
from handclip_core.paths import output_folder, user_path

if TYPE_CHECKING:
    from handclip_core.serving.model import ServedModel

Run = Annotated[Path, typer.Argument(help="Folder of a finished run, such as runs/NAME/best.")]
Images = Annotated[list[Path], typer.Argument(help="Image files, and folders of images.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")]
AspectName = Annotated[
    Literal["unknown", "dorsal right", "dorsal left", "palmar right", "palmar left"],
    typer.Option(help="What all images show; models that do not tell aspects apart do not ask."),
]
Far = Annotated[
    float | None,
    typer.Option(
        help="False accepts a comparison: 0.1, 0.01, 0.001 or 0.0001; by default the lowest that has a threshold."
    ),
]


def embed(
    run: Run,
    images: Images,
    out: Annotated[Path, typer.Option(help="FILE.npy, with the names of its rows in FILE.csv; .parquet or .h5.")],
    aspect: AspectName = "unknown",
    device: DeviceName = "auto",
) -> None:
    """Embed images: a unit vector each, and the names of the rows."""
    from handclip_core.serving.embeddings import output_file, write_embeddings
    from handclip_core.serving.images import images_below, read_squares
    from handclip_core.types import Aspect

    out = output_file(out)
    model = _opened(run, device)
    found = read_squares(images_below(images), model.forms)
    vectors = model.embed_squares(found.arrays(), aspect=Aspect(aspect))
    write_embeddings(out, found.names, vectors)
    found.warn()
    print(f"wrote {len(vectors)} embeddings of width {model.width} to {out}; {len(found.unreadable)} images unreadable")


def enrol(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="<identity>/<image>")],
    to: Annotated[Path, typer.Option(help="Folder of the gallery, new or to be extended.")],
    aspect: AspectName = "unknown",
    device: DeviceName = "auto",
) -> None:
    """Enrol images of people in a gallery, which is begun or extended."""
    from handclip_core.serving import gallery
    from handclip_core.serving.images import warn
    from handclip_core.types import Aspect

    to = output_folder(to, option="--to")
    done = gallery.enrol(_opened(run, device), folder, to, aspect=Aspect(aspect))
    warn(done.unreadable)
    people, images = len(done.gallery.identities), len(done.gallery.entries)
    print(
        f"enrolled {done.added} images ({done.known} were there already, {len(done.unreadable)} unreadable); "
        f"{to} holds {images} images of {people} people"
    )


def identify(
    run: Run,
    images: Images,
    gallery: Annotated[Path, typer.Option(help="Folder that `enrol` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write identified.json, identified.csv and sheet.jpg to.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="People to list for each image.")] = 5,
    far: Far = None,
    aspect: AspectName = "unknown",
    device: DeviceName = "auto",
) -> None:
    """Say who images show: ranked people with scores, and accept, reject or unknown at a false accept rate."""
    from handclip_core.serving.answers import write_answer
    from handclip_core.serving.gallery import open_gallery
    from handclip_core.serving.identify import identify as ask
    from handclip_core.serving.identify import threshold_of
    from handclip_core.serving.images import images_below, read_squares
    from handclip_core.types import Aspect

    out = output_folder(out, option="--out") if out else None
    model = _opened(run, device)
    threshold_of(model, far)
    enrolled = open_gallery(gallery, model)
    found = read_squares(images_below(images), model.forms)
    answer = ask(model, found, model.embed_squares(found.arrays(), aspect=Aspect(aspect)), enrolled, top=top, far=far)
    found.warn()
    print(answer.text())
    if out:
        write_answer(answer, out)


def verify(
    run: Run,
    one: Annotated[Path, typer.Argument(help="An image.")],
    other: Annotated[Path, typer.Argument(help="Another one.")],
    far: Far = None,
    device: DeviceName = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether two images show one person: a score, and accept, reject or unknown at a false accept rate."""
    from handclip_core.serving.identify import verify as ask
    from handclip_core.serving.images import read_squares

    model = _opened(run, device)
    found = read_squares([user_path(one), user_path(other)], model.forms)
    for name, reason in found.unreadable.items():
        raise InputError(f"{name}: {reason}")
    said = ask(model, model.embed_squares(found.arrays()), far=far)
    print(json.dumps(said) if as_json else f"{said['decision']}  {said['score']:.4f}\n{said['meaning']}")


def calibrate(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="<identity>/<image>, of people who were not trained on.")],
    aspect: AspectName = "unknown",
    device: DeviceName = "auto",
) -> None:
    """Set a run's thresholds by images of your own: a final model has those of another run, and cameras differ."""
    from handclip_core.serving.calibrate import calibrate as set_thresholds
    from handclip_core.serving.identify import meaning
    from handclip_core.types import Aspect

    found = set_thresholds(_opened(run, device), folder, aspect=Aspect(aspect))
    print(f"{found.num_genuine} pairs of one person, {found.num_impostor} of two, {found.num_identities} people")
    for line in (*map(meaning, found.points), *(f"no threshold at {reason}" for reason in found.refused)):
        print(line)


def export(
    run: Run,
    to: Annotated[Literal["onnx", "safetensors", "open_clip"], typer.Option(help="What reads it.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; exported/KIND in the run's without it.")] = None,
) -> None:
    """Write a run's image tower for other programs, checked against this one, with a model card."""
    from handclip_core.serving.export import export_run

    model = _opened(run, "cpu")
    folder = output_folder(out or model.folder / "exported" / to, option="--out")
    print(export_run(model, folder, kind=to))


def _opened(run: Path, device: str) -> "ServedModel":
    from handclip_core.devices import select_device
    from handclip_core.serving.model import open_run

    return open_run(run, device=select_device(device))
