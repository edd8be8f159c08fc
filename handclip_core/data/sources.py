"""Where images come from: a folder that `prepare` made, or hands drawn on the spot."""

import shutil
from pathlib import Path
from typing import Annotated, Literal, Self

from filelock import FileLock
from pydantic import Field, model_validator

from handclip_core.config import Config, UserPath
from handclip_core.data.eleven_k import TABLE_NAME, prepare_eleven_k
from handclip_core.data.manifest import MANIFEST_NAME, PROTOCOL_NAME, Cut, Prepared, load_prepared
from handclip_core.data.own_rows import RowFormat, prepare_rows
from handclip_core.drawn import DRAWING_VERSION, write_data_set
from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import Enrolled, GalleryKind
from handclip_core.evaluation.similarity import Distance
from handclip_core.own_code import DottedPath
from handclip_core.types import Aspect


class _View(Config):
    """Which part of a data set an experiment uses, and how it is scored."""

    aspects: tuple[Aspect, ...] = ()
    """Aspects to train and score, in this order; none means every aspect that the data hold."""
    gallery: GalleryKind = GalleryKind.ALL
    """Gallery of a query: ``all`` aspects, in which other aspects are distractors, or its ``own``
    aspect's."""
    enrolled: Enrolled = Enrolled.ONE
    """Images of an identity in the gallery of a draw: ``one``, and all others are queries; or the ``rest``, and that
    one is the single query. Of query and gallery folders that came ready, ``rest`` lets the two change places."""
    distance: Distance = Distance.COSINE
    """What orders a gallery: the ``cosine``, or the ``euclidean`` distance of embeddings as they are, before they are
    brought to length 1. Models with a score of their own (likelihood ratios, votes) keep it; thresholds, and a model
    in use, go by the cosine."""

    @property
    def has_galleries(self) -> bool:
        """Whether anything is set that only the task of identities, which searches in galleries, makes use of."""
        plain = (GalleryKind.ALL, Enrolled.ONE, Distance.COSINE)
        return bool(self.aspects) or (self.gallery, self.enrolled, self.distance) != plain


class DrawnData(_View):
    """Procedurally drawn hands in the layout of 11k Hands; the same settings give the same bytes everywhere."""

    source: Literal["drawn"] = "drawn"
    """Marks drawn data."""
    people: int = Field(48, ge=8)
    """Identities; half of them are test identities."""
    images_per_aspect: int = Field(5, ge=2, le=200)
    """Images of each identity's each aspect."""
    height_px: int = Field(240, ge=96, le=2400)
    """Height of an image; its width is 4/3 of that."""
    sittings: int = Field(1, ge=1, le=200)
    """Sittings that the images of an identity's aspect are dealt out to. Those of one share most of their pose, light
    and ground, as in collections taken in one go; with more, less but the hand itself tells whose it is."""
    seed: int = Field(0, ge=0)
    """Which identities are drawn, and how the data set is split."""


class PreparedData(_View):
    """A folder that ``python -m handclip_core prepare`` wrote."""

    source: Literal["prepared"]
    """Marks prepared data."""
    folder: UserPath
    """Folder with ``manifest.csv`` and ``protocol.json``."""
    rows: DottedPath | None = None
    """A function of your own that describes the images below ``root``, as in ``my_data.rows``; it is called if
    ``folder`` has no manifest yet, which is then made from what it gives."""
    root: UserPath | None = None
    """Folder of the images that ``rows`` describes."""

    @model_validator(mode="after")
    def _rows_come_with_their_root(self) -> Self:
        if (self.rows is None) != (self.root is None):
            raise ValueError("rows and root: give both, or neither for a folder that `prepare` wrote")
        return self


DataSettings = Annotated[DrawnData | PreparedData, Field(discriminator="source")]


def open_data(settings: DrawnData | PreparedData, *, cache: Path, form: RowFormat | None = None) -> Prepared:
    """The prepared data set that ``settings`` name; drawn hands are drawn once a machine, into ``cache``.

    Rows of the user's own have the ``form`` of the task, without which none are read. Raises InputError if a prepared
    folder is missing or damaged.
    """
    folder = data_folder(settings, cache=cache)
    if isinstance(settings, DrawnData):
        return draw_and_prepare(folder, settings)
    if form is not None and settings.rows is not None and settings.root is not None and not _is_whole(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_whole(folder):
                prepare_rows(settings.rows, settings.root, folder, form)
    return load_prepared(folder)


def data_folder(settings: DrawnData | PreparedData, *, cache: Path) -> Path:
    """The folder of the prepared data set that ``settings`` name, whether it is there or not."""
    if isinstance(settings, PreparedData):
        return settings.folder
    size = f"{settings.people}x{settings.images_per_aspect}-{settings.height_px}px"
    sittings = f"-{settings.sittings}sittings" if settings.sittings > 1 else ""
    return cache / "drawn" / f"{size}{sittings}-seed{settings.seed}-v{DRAWING_VERSION}"


def draw_and_prepare(out: Path, settings: DrawnData) -> Prepared:
    """Draw hands into ``out/pictures`` and prepare them into ``out``, unless that has been done before.

    Both steps appear whole or not at all, so a kill between them costs only what was under way.
    """
    out.mkdir(parents=True, exist_ok=True)
    images = out / "pictures"
    with FileLock(f"{out}.lock"):
        if not (images / TABLE_NAME).exists():
            for unfinished in out.glob(f".{images.name}-*"):
                shutil.rmtree(unfinished)
            write_data_set(
                images,
                people=settings.people,
                images_per_aspect=settings.images_per_aspect,
                height_px=settings.height_px,
                sittings=settings.sittings,
                seed=settings.seed,
            )
        if not _is_prepared(out):
            prepare_eleven_k(images, out, cut=Cut.COMMON, seed=settings.seed, source="drawn")
    return load_prepared(out)


def _is_whole(out: Path) -> bool:
    """Whether the files that are written last are there, so that all are."""
    return (out / MANIFEST_NAME).exists() and (out / PROTOCOL_NAME).exists()


def _is_prepared(out: Path) -> bool:
    """Whether both files are there and sound; they cost little to write anew."""
    try:
        load_prepared(out)
    except InputError:
        return False
    return True
