"""Data that come cut already: train, val, test, query and gallery folders, read as they are."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from handclip_core.data.collection import Collection
from handclip_core.data.images import BadImageError, read_image
from handclip_core.data.layouts import aspect_of, collected, entries_of, name_fault, unread_lines
from handclip_core.data.manifest import GallerySplit
from handclip_core.data.tables import words_of
from handclip_core.errors import InputError
from handclip_core.types import Aspect

_FOLDER = re.compile(
    r"(bounding box )?(?P<kind>train(ing)?|val(id(ation)?)?|test(ing)?|query|queries|probe|gallery|galleries)"
    r" ?(?P<a>\d*)(?P<all> all)? ?(?P<b>\d*)"
)
_KINDS = {
    "training": "train", "valid": "val", "validation": "val", "testing": "test",
    "queries": "query", "probe": "query", "galleries": "gallery",
}  # fmt: skip


SUBSETS = ("train", "val", "test")
"""Splits in which queries and galleries may lie."""


@dataclass(frozen=True)
class Place:
    """What the folder of an image says: ``kind`` is train, val, test, query, gallery or gallery_all."""

    kind: str
    draw: int = 0
    aspect: str = Aspect.UNKNOWN.value


@dataclass(frozen=True)
class ReadySplits:
    """How data were cut by their owner, by the paths of images in the manifest."""

    subset_of: dict[str, str]
    """The subset of each image."""
    closed_val: frozenset[str] = frozenset()
    """Images to validate on that show people who are trained on, too; the search chooses others."""
    draws: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    """Queries and gallery of each draw of the test; none if there are only training and test images."""

    def gallery_splits(self, manifest: pd.DataFrame) -> tuple[GallerySplit, ...]:
        """The draws by manifest rows, aspect by aspect. Raises InputError if no query of one has a match."""
        found = []
        for number, sides in enumerate(self.draws):
            query, gallery = (manifest[manifest["path"].isin(side)] for side in sides)
            if not query["identity"].isin(set(gallery["identity"])).any():
                raise InputError(f"query and gallery of draw {number}: no query has a match in the gallery")
            by_aspect = [
                {str(aspect): tuple(map(int, rows.index)) for aspect, rows in side.groupby("aspect")}
                for side in (gallery, query)
            ]
            found.append(GallerySplit(gallery=by_aspect[0], query=by_aspect[1]))
        return tuple(found)


def place_of(image: str) -> tuple[Place, tuple[str, ...]] | None:
    """What the folders of ``image`` say of its split, and the parts of its path below them; None if they do not.

    The folder of an aspect may stand above that of the split, or below it; ``query`` and ``gallery`` may lie in another
    split: those in ``test`` are its draws, those in ``train`` and ``val`` are parts of them.
    """
    *folders, name = PurePosixPath(image).parts
    above = aspect_of(folders[0], whole=False) if len(folders) > 1 else ""
    place = _split_of(folders[0]) if folders else None
    level = 1
    if place is None and above:
        place, level = _split_of(folders[1]), 2
    if place is None:
        return None
    aspect, below = above if level == 2 else "", folders[level:]
    while below:
        inner, told = _split_of(below[0]), aspect_of(below[0])
        if inner is not None and inner.kind in ("query", "gallery", "gallery_all") and place.kind in SUBSETS:
            place = inner if place.kind == "test" else place
        elif told and not aspect:
            aspect = told
        else:
            break
        below = below[1:]
    return replace(place, aspect=aspect or place.aspect), (*below, name)


def _split_of(folder: str) -> Place | None:
    match = _FOLDER.fullmatch(words_of(folder))
    if match is None:
        return None
    kind = _KINDS.get(match["kind"], match["kind"])
    return Place("gallery_all" if kind == "gallery" and match["all"] else kind, int(match["a"] or match["b"] or 0))


def are_ready(root: Path) -> bool:
    """Whether the folders of ``root``, or those of its aspects, are splits: one to train on, and one to test on."""
    folders = [path.relative_to(root).as_posix() for path in (*root.glob("*"), *root.glob("*/*")) if path.is_dir()]
    kinds = {place[0].kind for folder in folders if (place := place_of(f"{folder}/image"))}
    return "train" in kinds and bool({"test", "query"} & kinds)


@dataclass
class _Image:
    """One image of one side of the cut, wherever its copies lie."""

    path: str
    told: dict[str, str]
    places: set[Place] = field(default_factory=set)


def read_ready(
    root: Path, *, name: str, named: Callable[[str], dict[str, str] | str] | None
) -> tuple[Collection, ReadySplits]:
    """The images of data that are cut already, each once, and how they are cut.

    Below a split lies ``<identity>/<image>`` or ``<identity>/<session>/<image>``, or ``named`` tells from the name who
    is shown. Copies of an image in several splits are found by their content. Raises InputError if there is no image.
    """
    found = entries_of(root)
    images: dict[tuple[bool, str, str], _Image] = {}
    faults: dict[str, str] = {}
    outside: list[str] = []
    for path in found.images:
        placed = place_of(path)
        if placed is None:
            outside.append(path)
            continue
        place, below = placed
        told = _told(path, below, named)
        if isinstance(told, str):
            faults[path] = told
            continue
        key = (place.kind in ("train", "val"), told["identity"], _content(root, path))
        images.setdefault(key, _Image(path, told | {"aspect": place.aspect})).places.add(place)
        if place.kind in ("train", "test"):
            images[key].path, images[key].told = path, told | {"aspect": place.aspect}
    if not images:
        raise InputError(f"{root}: no image at <split>/<identity>/<image>; names that tell need --name-pattern")
    left_out = unread_lines(found)
    left_out += _without_shifted(images)
    left_out += _told_twice(images.values())
    told_of = {image.path: image.told for image in images.values()}
    if outside:
        left_out.append(f"{len(outside)} images lie in no split (first: {outside[0]})")
    collection = collected(
        root,
        [*told_of, *faults],
        lambda path: told_of.get(path) or faults[path],
        found,
        name=name,
        left_out=left_out,
    )
    return collection, _cut(list(images.values()))


def _told(
    path: str, below: tuple[str, ...], named: Callable[[str], dict[str, str] | str] | None
) -> dict[str, str] | str:
    if fault := name_fault(path):
        return fault
    if named is not None:
        return named(path)
    if len(below) not in (2, 3):
        return "lies at no <split>/<identity>/<image> or <split>/<identity>/<session>/<image>; see --name-pattern"
    return {"identity": below[0], "session": below[1] if len(below) == 3 else ""}


def _without_shifted(images: dict[tuple[bool, str, str], _Image]) -> list[str]:
    """Take out of ``images`` what stands in galleries of all aspects alone and is another aspect's test image.

    Scripts put it there under a shifted identity; galleries of all aspects are made from the aspects themselves.
    """
    alone = {key for key, image in images.items() if {place.kind for place in image.places} == {"gallery_all"}}
    tested = {content for trained, _, content in images.keys() - alone if not trained}
    shifted = sorted(images.pop(key).path for key in alone if key[2] in tested)
    if not shifted:
        return []
    made = "galleries of all aspects are made from the aspects' own"
    return [f"{len(shifted)} copies of test images under other identities (first: {shifted[0]}); {made}"]


def _told_twice(images: Iterable[_Image]) -> list[str]:
    """A line if images stand under several aspects; the gallery of all aspects says nothing of an image's own."""
    aspects = {image.path: {p.aspect for p in image.places if p.kind != "gallery_all"} for image in images}
    twice = {path: found for path, found in aspects.items() if len(found) > 1}
    if not twice:
        return []
    first, found = next(iter(twice.items()))
    told = f"(first: {first}: {', '.join(sorted(found))})"
    return [f"the other aspects of {len(twice)} images that stand under several {told}"]


def _content(root: Path, path: str) -> str:
    """SHA-256 of a file; its path if it cannot be read, which is told when images are checked."""
    try:
        return hashlib.sha256(read_image(root / path)).hexdigest()
    except BadImageError:
        return path


def _cut(images: list[_Image]) -> ReadySplits:
    trained = {image.told["identity"] for image in images if any(place.kind == "train" for place in image.places)}
    subset_of: dict[str, str] = {}
    closed: set[str] = set()
    for image in images:
        kinds = {place.kind for place in image.places}
        if "val" in kinds and image.told["identity"] in trained:
            closed.add(image.path)
        if kinds & {"train", "val"}:
            subset_of[image.path] = "val" if "val" in kinds and image.path not in closed else "train"
        else:
            subset_of[image.path] = "distractor" if kinds == {"gallery_all"} else "test"
    numbers = sorted({place.draw for image in images for place in image.places if place.kind == "query"})
    draws = []
    for number in numbers:
        query, gallery = (_in(images, kind, number) for kind in ("query", "gallery"))
        others = {path for path in _in(images, "gallery_all", number) if subset_of[path] == "distractor"}
        draws.append((query, (gallery or _in(images, "test", 0) - query) | others))
    return ReadySplits(subset_of, frozenset(closed), tuple(draws))


def _in(images: list[_Image], kind: str, draw: int) -> frozenset[str]:
    return frozenset(image.path for image in images if any((p.kind, p.draw) == (kind, draw) for p in image.places))
