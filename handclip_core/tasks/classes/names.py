"""Names of classes as CLIP can read them, and templates of sentences around them."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.paths import read_file, user_path
from handclip_core.types import Aspect, Templates

_NUMBER = re.compile(r"^\d+\s*[._\- ]\s*(?=\D)")
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
_BETWEEN = re.compile(r"[\W_]+")

ASPECT_NAMES: Mapping[str, str] = {
    Aspect.DORSAL_RIGHT: "the back of a right hand",
    Aspect.DORSAL_LEFT: "the back of a left hand",
    Aspect.PALMAR_RIGHT: "the palm of a right hand",
    Aspect.PALMAR_LEFT: "the palm of a left hand",
}
"""What the aspects of hands are called where they are the classes."""
POLISHED = " with nail polish"
"""What is added of hands whose nails are."""


TEMPLATES: Mapping[Templates, tuple[str, ...]] = {
    Templates.NAME: ("{}",),
    Templates.PHOTO: ("a photo of {}.",),
    Templates.MANY: (
        "a photo of {}.",
        "a picture of {}.",
        "a close-up of {}.",
        "a good photo of {}.",
        "a bright photo of {}.",
        "a dark photo of {}.",
        "a blurry photo of {}.",
        "an image that shows {}.",
    ),
}


def sentences(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template with every name, a name's together."""
    return [template.replace("{}", name) for name in names for template in templates]


def read_templates(given: object) -> object:
    """Of the name of a text file its lines, one a sentence; anything else as it is.

    Raises ValueError for a file that cannot be read, or is empty.
    """
    if not isinstance(given, str | Path):
        return given
    path = user_path(given)
    try:
        found = tuple(line.strip() for line in _lines(path) if line.strip())
    except InputError as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError(f"{path}: holds no sentence")
    return found


def checked_templates(templates: tuple[str, ...]) -> tuple[str, ...]:
    """The same; raises ValueError for one without a single place for the name."""
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"'{template}' must have {{}} once, where the name of the class goes")
    return templates


def readable(folder: str) -> str:
    """A folder's name as words: of ``riding_a_horse``, ``ApplyEyeMakeup``, ``001.Black_footed``."""
    words = _BETWEEN.sub(" ", _HUMP.sub(" ", _NUMBER.sub("", folder.strip()))).split()
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words)


def class_names(folders: Sequence[str], *, given: Mapping[str, str]) -> tuple[str, ...]:
    """The name of each class: that ``given`` for its folder, or the folder's own made readable.

    Raises InputError for a name without a word, or one of two classes.
    """
    names = tuple(given.get(folder) or readable(folder) for folder in folders)
    for folder, name in zip(folders, names, strict=True):
        if not any(letter.isalpha() for letter in name):
            raise InputError(f"class '{folder}': its name holds no word; name it in a file for --names")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        both = [folder for folder, name in zip(folders, names, strict=True) if name == twice[0]]
        raise InputError(f"classes {', '.join(both)}: all are called '{twice[0]}'; name them in a file for --names")
    return names


def read_names(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Names by folder from a text file of lines ``folder,name``, either in quotes if need be.

    Raises InputError for any other line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        folder, *words = (part.strip() for part in next(csv.reader([line], skipinitialspace=True)))
        name = ", ".join(filter(None, words))
        if not name:
            raise InputError(f"{path} line {number}: write folder,name")
        if folder not in folders:
            raise InputError(f"{path} line {number}: there is no class '{folder}'; there are {', '.join(folders[:5])}")
        if folder in found:
            raise InputError(f"{path} line {number}: class '{folder}' is named twice")
        found[folder] = name
    return found


def _lines(path: Path) -> list[str]:
    try:
        return read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8") from None
