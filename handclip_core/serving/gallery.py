"""A gallery: enrolled images of known people as embeddings, in a folder that belongs to one model."""

import csv
import hashlib
import io
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handclip_core.config import Config
from handclip_core.errors import InputError
from handclip_core.paths import input_folder, read_file, shown_path
from handclip_core.serving.images import is_image, read_squares
from handclip_core.serving.model import Embeddings, ServedModel
from handclip_core.types import Aspect

ABOUT, TABLE, VECTORS = "gallery.json", "images.csv", "embeddings.npy"
COLUMNS = ("identity", "image", "sha256")
A_GALLERY = "name a folder that `enrol --to GALLERY` wrote"


class About(Config):
    """What a gallery says of itself."""

    model: str
    """Hash of the model whose embeddings it holds."""
    run: str
    """Name of that model's folder, for people."""
    width: int
    """Width of an embedding."""
    checksum: str | None = None
    """Of its table and its embeddings; none in galleries of earlier versions."""


@dataclass(frozen=True)
class Entry:
    """An enrolled image: whose it is, where it was, and the SHA-256 of its file."""

    identity: str
    image: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """``entries`` [G] by identity and image, with their ``embeddings`` [G, W]."""

    about: About
    entries: tuple[Entry, ...]
    embeddings: Embeddings

    @cached_property
    def identities(self) -> list[str]:
        """Every enrolled identity, in the order of code points."""
        return sorted({entry.identity for entry in self.entries})

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first entry of each of ``identities``."""
        return np.unique([entry.identity for entry in self.entries], return_index=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Enrolled:
    """What an enrolment did: images ``added``, ``known`` before, and why others could not be read."""

    gallery: Gallery
    added: int
    known: int
    unreadable: dict[str, str]


def enrol(model: ServedModel, root: Path, to: Path, *, aspect: Aspect = Aspect.UNKNOWN) -> Enrolled:
    """Add the images of ``root``, which are <identity>/<image> or deeper, to the gallery ``to``; a new one is begun.

    Images that are there already are passed over. Raises InputError for a gallery of another model, a folder without
    people, and a file that is enrolled as somebody else.
    """
    before = open_gallery(to, model) if to.exists() and any(to.iterdir()) else None
    found = people_below(root)
    squares = read_squares([path for path, _ in found], model.forms)
    who = {str(path): identity for path, identity in found}
    entries = [Entry(who[name], str(Path(name).absolute()), _sha256(name)) for name in squares.names]
    taken = {entry.sha256: entry.identity for entry in before.entries} if before else {}
    new = []
    for place, entry in enumerate(entries):
        holder = taken.get(entry.sha256)
        if holder is None:
            new.append(place)
            taken[entry.sha256] = entry.identity
        elif holder != entry.identity:
            raise InputError(f"{shown_path(entry.image)}: the same file is enrolled as '{holder}'; it shows one person")
    added = model.embed_squares(squares.arrays(new), aspect=aspect) if new else None
    gallery = _joined(before, model, [entries[place] for place in new], added)
    if new:
        _write(gallery, to)
    return Enrolled(gallery, len(new), len(entries) - len(new), squares.unreadable)


def open_gallery(folder: Path, model: ServedModel) -> Gallery:
    """The gallery in ``folder``; raises InputError if it is none, is damaged, or was made by another model."""
    folder = input_folder(folder, mend=A_GALLERY)
    if not (folder / ABOUT).is_file():
        raise InputError(f"{shown_path(folder)}: holds no {ABOUT}; {A_GALLERY}")
    about = About.from_file(folder / ABOUT)
    if about.model != model.hash:
        raise InputError(
            f"{shown_path(folder)}: was made by another model ({about.run}, {about.model[:12]}); this one is "
            f"{model.hash[:12]}: embeddings of two models cannot be compared, so enrol the images again"
        )
    table, vectors = read_file(folder / TABLE), read_file(folder / VECTORS)
    if about.checksum is not None and about.checksum != _checksum(table, vectors):
        raise InputError(f"{shown_path(folder)}: {TABLE} or {VECTORS} was changed or damaged; enrol the images again")
    try:
        head, *rows = csv.reader(io.StringIO(table.decode("utf-8")))
        entries = tuple(Entry(*row) for row in rows)
        embeddings = np.load(io.BytesIO(vectors), allow_pickle=False)
    except (ValueError, TypeError, OSError, EOFError, csv.Error):
        raise InputError(f"{shown_path(folder)}: {TABLE} or {VECTORS} is damaged; enrol the images again") from None
    if tuple(head) != COLUMNS or not entries or embeddings.shape != (len(entries), about.width):
        raise InputError(f"{shown_path(folder)}: {TABLE} and {VECTORS} do not belong together; enrol the images again")
    return Gallery(about, entries, embeddings.astype(np.float32))


def people_below(root: Path) -> list[tuple[Path, str]]:
    """The images in folders named after people, with the people's names in Unicode's composed form.

    Raises InputError if there is no such folder with an image.
    """
    root = input_folder(root, mend="name a folder of <identity>/<image>")
    people = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = [
        (file, unicodedata.normalize("NFC", person.name))
        for person in people
        for file in sorted(person.rglob("*"))
        if is_image(file)
    ]
    if not found:
        raise InputError(f"{shown_path(root)}: no images of people; it needs to hold <identity>/<image>")
    return found


def _checksum(table: bytes, vectors: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(table).digest() + vectors).hexdigest()


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _joined(before: Gallery | None, model: ServedModel, entries: Sequence[Entry], added: Embeddings | None) -> Gallery:
    """Both in the order of identities and images, whatever order they were enrolled in."""
    every = [*(before.entries if before else ()), *entries]
    parts = [part for part in (before.embeddings if before else None, added) if part is not None]
    order = sorted(range(len(every)), key=lambda place: (every[place].identity, every[place].image))
    about = About(model=model.hash, run=model.name, width=model.width)
    return Gallery(about, tuple(every[place] for place in order), np.concatenate(parts)[order])


def _write(gallery: Gallery, folder: Path) -> None:
    """Put the gallery in the place of ``folder``: a kill leaves the old one or the new one, if under another name."""
    partial, old = (folder.with_name(f"{folder.name}.{end}") for end in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / VECTORS, gallery.embeddings)
    with (partial / TABLE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows((entry.identity, entry.image, entry.sha256) for entry in gallery.entries)
    checksum = _checksum((partial / TABLE).read_bytes(), (partial / VECTORS).read_bytes())
    about = gallery.about.model_copy(update={"checksum": checksum})
    (partial / ABOUT).write_text(about.model_dump_json(indent=2), encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
