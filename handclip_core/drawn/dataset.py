"""Many images at once: as files in the layout of 11k Hands, or as arrays in memory. Drawn in parallel processes."""

import csv
import itertools
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from handclip_core.console import track
from handclip_core.drawn.anatomy import Person, person
from handclip_core.drawn.captions import caption, note
from handclip_core.drawn.pose import outfit
from handclip_core.drawn.render import ASPECTS, SMALLEST_PX, Details, draw_image
from handclip_core.drawn.seeds import stream
from handclip_core.errors import InputError
from handclip_core.signals import deaf_to_terminals

HEADER = (
    "id",
    "age",
    "gender",
    "skinColor",
    "accessories",
    "nailPolish",
    "aspectOfHand",
    "imageName",
    "irregularities",
)
"""Columns of ``HandInfo.csv``, in the order of 11k Hands."""

CAPTIONS_NAME, CAPTION_COLUMNS = "captions.csv", ("filepath", "title")
"""The captions of all images, beside the table."""
CAPTIONS_EACH = 2
"""Captions of each style of an image; fewer if chance made two alike."""

LAST_LOW_ID = 1037
FIRST_HIGH_ID = 1052
"""Every published cut (`int(id) <= T` trains; T 1050, 1037, 1051, 1042) lies between these two ids."""

DRAWING_VERSION = 2
"""Raise it whenever the same arguments give other files: part of the name under which drawn data are kept."""

_JPEG_QUALITY = 92
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class DrawnArrays:
    """Images in memory: ``pixels`` uint8 [N, H, W, 3], ``person`` and ``aspect`` int64 [N], ``captions`` [N] or ().

    ``aspect`` counts in the order dorsal right, dorsal left, palmar right, palmar left.
    """

    pixels: npt.NDArray[np.uint8]
    person: npt.NDArray[np.int64]
    aspect: npt.NDArray[np.int64]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """The images of one person and aspect."""

    index: int
    aspect: str
    shots: tuple[int, ...]
    first_file: int = 0


@dataclass(frozen=True)
class _People:
    population: str
    seed: int

    def __getitem__(self, index: int) -> Person:
        return _cached_person(self.population, self.seed, index)


@lru_cache(maxsize=8)
def _cached_person(population: str, seed: int, index: int) -> Person:
    return person(population, seed, index)


def _parallel(work: Callable[[_Group], Result], tasks: list[_Group], *, workers: int | None) -> Iterator[Result]:
    """Yield results in the order of ``tasks``; spawned processes, or this one for a single worker."""
    sizes = [len(task.shots) for task in tasks]
    told = partial(track, description="drawing images", total=sum(sizes), sizes=sizes)
    count = min(workers if workers is not None else len(os.sched_getaffinity(0)), len(tasks))
    if count <= 1:
        yield from told(map(work, tasks))
        return
    # A worker that is killed breaks this pool with an exception; multiprocessing's own would wait for it for ever.
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    with deaf_to_terminals():  # what keeps track of the pool's semaphores starts here, too
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
    with pool:
        try:
            with deaf_to_terminals():
                results = pool.map(work, tasks, chunksize=2)
            yield from told(results)
        except BaseException:
            # The pool would wait for what is under way.
            for worker in set(multiprocessing.active_children()) - set(others):
                worker.terminate()
            raise


def _end_with_parent() -> None:
    """End this worker when its parent has ended, however that came about."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def identity_ids(people: int) -> list[str]:
    """Ids of ``people`` people: half on either side of every published cut; when too many, the rest goes above."""
    low = min((people + 1) // 2, LAST_LOW_ID)
    numbers = [*range(1, low + 1), *range(FIRST_HIGH_ID, FIRST_HIGH_ID + people - low)]
    return [f"{number:07d}" for number in numbers]


def _plain_shots(someone: Person, aspect: str, wanted: int) -> tuple[int, ...]:
    """Numbers of the first shots that hold ``wanted`` images without accessories."""
    shots: list[int] = []
    plain = 0
    for shot in itertools.count():
        if plain == wanted:
            break
        shots.append(shot)
        plain += not outfit(someone, aspect, shot).accessories
    return tuple(shots)


def _file_name(number: int) -> str:
    return f"Hand_{number:07d}.jpg"


@dataclass(frozen=True)
class _Seen:
    """What an image shows, as a row of the table and as captions."""

    details: Details
    captions: tuple[str, ...]


def _write_group(people: _People, folder: Path, height_px: int, sittings: int, group: _Group) -> list[_Seen]:
    someone, seen = people[group.index], []
    for place, shot in enumerate(group.shots):
        drawn = draw_image(someone, group.aspect, shot=shot, height_px=height_px, sitting=place % sittings)
        Image.fromarray(drawn.pixels).save(folder / _file_name(group.first_file + place), quality=_JPEG_QUALITY)
        rng = stream("captions", people.population, people.seed, group.index, group.aspect, shot)
        texts = [tell(someone, group.aspect, drawn, rng) for tell in (caption, note) for _ in range(CAPTIONS_EACH)]
        seen.append(_Seen(drawn.details, tuple(dict.fromkeys(texts))))
    return seen


def _checked(people: int, images_per_aspect: int, height_px: int, sittings: int = 1) -> None:
    for name, value, least in (
        ("people", people, 1),
        ("images_per_aspect", images_per_aspect, 1),
        ("height_px", height_px, SMALLEST_PX),
        ("sittings", sittings, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")


def _row(identity: str, someone: Person, details: Details, name: str) -> list[str | int]:
    return [
        identity, someone.age, someone.gender, someone.skin.tone, int(details.accessories), int(details.nail_polish),
        details.aspect, name, int(details.irregularities),
    ]  # fmt: skip


def _write_table(path: Path, people: _People, ids: list[str], groups: list[_Group], shown: list[list[_Seen]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        for group, seen in zip(groups, shown, strict=True):
            for place, one in enumerate(seen):
                name = _file_name(group.first_file + place)
                table.writerow(_row(ids[group.index], people[group.index], one.details, name))


def _write_captions(path: Path, groups: list[_Group], shown: list[list[_Seen]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(CAPTION_COLUMNS)
        for group, seen in zip(groups, shown, strict=True):
            for place, one in enumerate(seen):
                name = f"Hands/{_file_name(group.first_file + place)}"
                table.writerows((name, text) for text in one.captions)


def write_data_set(
    root: Path,
    *,
    people: int,
    images_per_aspect: int,
    height_px: int = 240,
    sittings: int = 1,
    seed: int = 0,
    population: str = "default",
    workers: int | None = None,
) -> Path:
    """Write ``root/Hands/Hand_0000001.jpg`` ... and ``root/HandInfo.csv`` as 11k Hands has them; returns ``root``.

    ``images_per_aspect`` counts the images without accessories that each person has of each aspect; those with
    accessories (about one in seven, which the 11k preparation drops) come on top. Images are 4:3, ``height_px`` high
    (1200 is the real size). The images of an aspect are dealt out to ``sittings`` in turn. ``root/captions.csv`` has
    captions of what each image shows. Half of the people lie on either side of the published cuts. Everything is drawn
    in a temporary folder beside ``root`` that takes its name at the end. Raises InputError if ``root`` holds something
    already or a number is too small.
    """
    _checked(people, images_per_aspect, height_px, sittings)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root} exists and is not an empty folder; name another folder or remove it")
    who = _People(population, seed)
    groups: list[_Group] = []
    files = 1
    for index, aspect in itertools.product(range(people), ASPECTS):
        shots = _plain_shots(who[index], aspect, images_per_aspect)
        groups.append(_Group(index, aspect, shots, files))
        files += len(shots)
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        (unfinished / "Hands").mkdir()
        work = partial(_write_group, who, unfinished / "Hands", height_px, sittings)
        shown = list(_parallel(work, groups, workers=workers))
        _write_table(unfinished / "HandInfo.csv", who, identity_ids(people), groups, shown)
        _write_captions(unfinished / CAPTIONS_NAME, groups, shown)
        unfinished.chmod(0o755)
        unfinished.replace(root)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return root


def _draw_group(
    people: _People, height_px: int, captions: bool, group: _Group
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    someone = people[group.index]
    images, texts = [], []
    for shot in group.shots:
        drawn = draw_image(someone, group.aspect, shot=shot, height_px=height_px)
        images.append(drawn.pixels)
        if captions:
            rng = stream("caption", people.population, people.seed, group.index, group.aspect, shot)
            texts.append(caption(someone, group.aspect, drawn, rng))
    return np.stack(images), texts


def draw_arrays(
    *,
    population: str,
    seed: int,
    people: int,
    images_per_aspect: int,
    height_px: int,
    workers: int | None,
    captions: bool,
) -> DrawnArrays:
    """Draw N = people x 4 x images_per_aspect images in memory, accessories included, by person, aspect and shot.

    Raises InputError when a number is too small.
    """
    _checked(people, images_per_aspect, height_px)
    who = _People(population, seed)
    groups = [_Group(index, aspect, tuple(range(images_per_aspect))) for index in range(people) for aspect in ASPECTS]
    total = len(groups) * images_per_aspect
    pixels = np.empty((total, height_px, round(height_px * 4 / 3), 3), np.uint8)
    texts: list[str] = []
    work = partial(_draw_group, who, height_px, captions)
    drawn = _parallel(work, groups, workers=workers)
    for start, (block, words) in zip(range(0, total, images_per_aspect), drawn, strict=True):
        pixels[start : start + images_per_aspect] = block
        texts += words
    return DrawnArrays(
        pixels,
        np.repeat(np.arange(people, dtype=np.int64), len(ASPECTS) * images_per_aspect),
        np.tile(np.repeat(np.arange(len(ASPECTS), dtype=np.int64), images_per_aspect), people),
        tuple(texts),
    )
