"""Where images lie and what that says of them: identity and session by folders, or by a pattern of names."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from handclip_core.data.collection import FOUND_COLUMNS, Collection
from handclip_core.data.images import SUFFIXES, UNREAD
from handclip_core.data.tables import path_fault, words_of
from handclip_core.data.who import fold_identities
from handclip_core.errors import InputError
from handclip_core.paths import fault_of, printable
from handclip_core.types import HAND_ASPECTS, Aspect

MOST_LEVELS = 12
GROUPS = ("identity", "session", "aspect")
"""What the named groups of a pattern may tell of an image."""
_SHORT = {"r": "right", "l": "left"}


@dataclass
class Entries:
    """What lies under a folder, by paths relative to it, sorted."""

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files that are no images by their name."""
    unread: list[str] = field(default_factory=list)
    """Images in a format that cannot be decoded here."""


def entries_of(root: Path) -> Entries:
    """All that lies under ``root``; hidden files are passed over, and links to folders lead one level deep only."""
    found = Entries()
    for path in _files(root, 0):
        relative, suffix = path.relative_to(root).as_posix(), path.suffix.lower()
        kind = found.images if suffix in SUFFIXES else found.unread if suffix in UNREAD else found.others
        kind.append(relative)
    return found


def _files(folder: Path, level: int) -> Iterator[Path]:
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {fault_of(error)}") from None
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif level < MOST_LEVELS and not (level and entry.is_symlink()):
            yield from _files(entry, level + 1)


def aspect_of(folder: str, *, whole: bool = True) -> str:
    """The aspect that a folder's name tells, empty if none; not ``whole``: any words may stand before it."""
    words = [_SHORT.get(word, word) for word in words_of(folder).split()]
    told = " ".join(words if whole else words[-2:])
    return told if told in [*HAND_ASPECTS] else ""


def read_folders(root: Path, *, name: str) -> Collection:
    """The images of ``root/<identity>/<image>``, or of ``root/<identity>/<session>/<image>`` if none lies higher.

    A folder that is called like an aspect tells it, wherever it stands. Raises InputError, which says in numbers what
    else is there, if there is none.
    """
    found = entries_of(root)
    by_level: dict[int, list[str]] = {}
    for image in found.images:
        by_level.setdefault(len(_who_folders(image)), []).append(image)
    level = 1 if 1 in by_level else 2
    used = by_level.pop(level, [])
    left_out = [*_elsewhere(by_level, level), *unread_lines(found)]
    if not used:
        layouts = "<identity>/<image> or <identity>/<session>/<image>"
        told = f" ({'; '.join(left_out)})" if left_out else ""
        raise InputError(f"{root}: no image at {layouts}{told}; other layouts need --name-pattern or --table")

    def told_by_folders(image: str) -> dict[str, str]:
        identity, *session = _who_folders(image)
        aspects = filter(None, map(aspect_of, PurePosixPath(image).parts[:-1]))
        return {"identity": identity, "session": "/".join(session), "aspect": next(aspects, Aspect.UNKNOWN.value)}

    return collected(root, used, told_by_folders, found, name=name, left_out=left_out)


def _who_folders(image: str) -> list[str]:
    """The folders above ``image`` but those of aspects: identity, and perhaps session."""
    return [folder for folder in PurePosixPath(image).parts[:-1] if not aspect_of(folder)]


def read_named(root: Path, told_by_name: Callable[[str], dict[str, str] | str], *, name: str) -> Collection:
    """The images under ``root``, in any folder, of which their names tell. Raises InputError if there is none."""
    found = entries_of(root)
    if not found.images:
        told = unread_lines(found)
        raise InputError(f"{root}: no image in it" + (f" ({'; '.join(told)})" if told else ""))
    return collected(root, found.images, told_by_name, found, name=name, left_out=unread_lines(found))


def by_name(pattern: str) -> Callable[[str], dict[str, str] | str]:
    """What an image's name, without ending, tells by ``pattern``, or that it does not fit.

    ``pattern`` is a regular expression with the group ``(?P<identity>...)``, and perhaps ``session`` and ``aspect``.
    Raises InputError for another one.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--name-pattern '{printable(pattern)}': no regular expression ({error})") from None
    unknown = set(compiled.groupindex) - set(GROUPS)
    if "identity" not in compiled.groupindex or unknown:
        raise InputError(
            f"--name-pattern '{printable(pattern)}': name the groups (?P<identity>...) and perhaps (?P<session>...), "
            f"(?P<aspect>...)" + (f"; not {', '.join(sorted(unknown))}" if unknown else "")
        )

    def told_by_name(image: str) -> dict[str, str] | str:
        match = compiled.match(PurePosixPath(image).stem)
        if match is None or not match["identity"]:
            return f"does not fit --name-pattern '{pattern}'"
        return {group: text for group, text in match.groupdict().items() if text}

    return told_by_name


def collected(
    root: Path,
    images: list[str],
    told_of: Callable[[str], dict[str, str] | str],
    found: Entries,
    *,
    name: str,
    left_out: list[str],
) -> Collection:
    """The rows of ``images``; ``told_of`` gives an image's columns, or what is wrong with it."""
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    for image in images:
        fault = name_fault(image) or path_fault(root, image)
        told = fault or told_of(image)
        if not isinstance(told, str) and words_of(told.get("aspect", Aspect.UNKNOWN)) not in [*Aspect]:
            told = f"unknown aspect '{told['aspect']}' (one of {', '.join(Aspect)})"
        if isinstance(told, str):
            problems.append(f"{printable(image)}: {told}")
        else:
            rows.append({"aspect": Aspect.UNKNOWN.value, **told, "path": image})
    table = pd.DataFrame(rows, columns=list(FOUND_COLUMNS), dtype=str).fillna("")
    table["aspect"] = table["aspect"].map(words_of)
    table["identity"], who = fold_identities(table["identity"])
    first = f" (first: {printable(found.others[0])})" if found.others else ""
    notes = (f"{len(found.others)} files are no images by their name{first}",) if found.others else ()
    return Collection(
        name=name,
        root=root,
        table=table,
        digest="",
        problems=tuple(problems),
        notes=notes,
        warnings=(*(f"left out: {line}" for line in left_out), *who),
    )


def _elsewhere(by_level: dict[int, list[str]], level: int) -> list[str]:
    """The images that lie at another level than those that are read, in numbers, with the mend."""
    flat = by_level.get(0, [])
    deeper = [image for at in sorted(by_level) if at > level for image in by_level[at]]
    lines = []
    if flat:
        lines.append(
            f"{len(flat)} images lie in no identity's folder (first: {printable(flat[0])}); move them into one"
        )
    if deeper:
        where = "<identity>/<image>" if level == 1 else "<identity>/<session>/<image>"
        mend = "move them up, or give every image a folder of its session" if level == 1 else "move them up"
        lines.append(f"{len(deeper)} images lie deeper than {where} (first: {printable(deeper[0])}); {mend}")
    return lines


def unread_lines(found: Entries) -> list[str]:
    """The images whose format is not decoded here, in numbers, with the mend."""
    lines = []
    for suffix in sorted({Path(image).suffix.lower() for image in found.unread}):
        images = [image for image in found.unread if Path(image).suffix.lower() == suffix]
        lines.append(f"{len(images)} {suffix} images (first: {printable(images[0])}): {UNREAD[suffix]}")
    return lines


def name_fault(relative: str) -> str | None:
    """What keeps a file's name out of a table, if anything does."""
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) <= 0xDFFF for letter in relative):
        return "has a name that is not text in UTF-8; rename it"
    return None
