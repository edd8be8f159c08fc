"""What a source says: images, the captions of each, and the split that it names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handclip_core.data.tables import found_path
from handclip_core.documents import shortened
from handclip_core.errors import InputError

SPLITS: Mapping[str, str] = {
    "train": "train", "restval": "train", "training": "train",
    "val": "val", "validation": "val", "valid": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What sources call a split, and what it is here; ``restval`` is the part of COCO's validation that Karpathy trains."""
MAX_CHARS = 2000
"""Characters of a caption that are kept: more than any text tower here reads."""


@dataclass
class Described:
    """An image as a source lists it: the ``split`` (empty if not said) and its captions, in the order of the source."""

    split: str
    texts: list[str] = field(default_factory=list)


@dataclass
class Found:
    """All that a source says, by path under ``root``; and what was noticed while reading it."""

    root: Path
    images: dict[str, Described] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dataset: str = ""
    """What the source calls itself, if it does."""
    num_again: int = 0
    """Images that were listed more than once; their captions are joined."""
    num_long: int = 0
    """Captions of which MAX_CHARS characters were kept."""

    def add(self, path: str, captions: Any, *, split: str = "", place: str, listed: bool = True) -> None:
        """An image and its caption or captions, at ``place`` of the source; what is wrong joins the problems.

        ``listed`` says that the source means a new image, not another caption of the one before.
        """
        path = found_path(self.root, path)
        subset = SPLITS.get(split.strip().lower(), "") if split else ""
        if split and not subset:
            known = ", ".join(SPLITS)
            raise InputError(f"{place}: unknown split '{shortened(split)}' (known are {known})")
        held = self.images.get(path)
        if held is not None and held.split != subset:
            self.problems.append(f"{place}: {path} is in {held.split or 'no split'} and in {subset or 'no split'}")
            return
        if held is not None and listed:
            self.num_again += 1
        image = self.images.setdefault(path, Described(subset))
        for caption in captions if isinstance(captions, list) else [captions]:
            self._caption(image, caption, place=f"{place}: {path}")

    def _caption(self, image: Described, caption: Any, *, place: str) -> None:
        if not isinstance(caption, str):
            self.problems.append(f"{place}: its caption is {kind_of(caption)}, not a text")
            return
        text = " ".join(caption.split())
        if not text:
            self.problems.append(f"{place}: an empty caption")
            return
        self.num_long += len(text) > MAX_CHARS
        text = text[:MAX_CHARS]
        if text not in image.texts:
            image.texts.append(text)


def kind_of(value: Any) -> str:
    """What ``value`` of a JSON document is, in words."""
    kinds = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    kinds |= {int: "a number", float: "a number"}
    return kinds.get(type(value), "nothing")


def text_at(item: Any, key: str, *, place: str) -> str:
    """The text ``item[key]``; raises InputError if it is missing, empty or something else."""
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, str) or not value.strip():
        found = kind_of(value) if not isinstance(value, str) else "empty"
        raise InputError(f"{place}: '{key}' is {found}; a text is needed")
    return value.strip()


def list_at(item: Any, key: str, *, place: str) -> list[Any]:
    """The list ``item[key]``; raises InputError if it is missing or something else."""
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, list):
        raise InputError(f"{place}: '{key}' is {kind_of(value)}; a list is needed")
    return value


def id_at(item: Any, key: str, *, place: str) -> str:
    """The identifier ``item[key]``, a text or a whole number, as a text; raises InputError for anything else."""
    value = item.get(key) if isinstance(item, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{place}: '{key}' is {kind_of(value)}; a text or a whole number is needed")
    return str(value).strip()
