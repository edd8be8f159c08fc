"""Readers of captions: annotations in JSON, COCO, Karpathy's splits, JSON lines, tables, and files beside images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handclip_core.data.layouts import entries_of, unread_lines
from handclip_core.data.tables import read_table
from handclip_core.documents import MAX_JSON_BYTES, parse_json, read_document
from handclip_core.errors import InputError
from handclip_core.paths import read_file
from handclip_core.tasks.captions.found import SPLITS, Found, id_at, kind_of, list_at, text_at

TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns."""

    path: str = "filepath"
    caption: str = "title"
    split: str | None = None


def read_captions(root: Path, annotations: Path | None, *, columns: Columns | None = None) -> Found:
    """Images under ``root`` with the captions that the file ``annotations``, or files beside the images, give them.

    Raises InputError for a file of another shape; single bad entries are among the problems of what is returned.
    """
    if annotations is None:
        found = _beside_images(root)
    elif annotations.suffix.lower() in TABLES:
        found = _table(root, annotations, columns or Columns())
    elif annotations.suffix.lower() in LINES:
        found = _lines(root, annotations)
    elif annotations.suffix.lower() == ".json":
        found = _document(root, annotations)
    else:
        raise InputError(f"{annotations}: its name ends in none of .json, {', '.join((*LINES, *TABLES))}")
    if not found.images and not found.problems:
        raise InputError(f"{annotations or root}: no image with a caption")
    return found


def _document(root: Path, path: Path) -> Found:
    document = read_document(path)
    keys = set(document) if isinstance(document, dict) else set()
    shapes: Mapping[frozenset[str], Callable[[Found, Any, str], None]] = {
        frozenset({"splits"}): _splits,
        frozenset({"images", "annotations"}): _coco,
        frozenset({"images"}): _karpathy,
    }
    read = next((reader for needed, reader in shapes.items() if needed <= keys), None)
    if read is None:
        has = f"a mapping with {', '.join(sorted(keys)[:5]) or 'nothing'}" if keys else kind_of(document)
        raise InputError(f"{path}: is {has}; expected 'splits', or 'images' with 'annotations' or with sentences")
    found = Found(root)
    read(found, document, str(path))
    return found


def _splits(found: Found, document: Any, source: str) -> None:
    """``splits.<split>[]`` with ``image_path``, ``caption``, and perhaps ``id`` and ``category``."""
    splits = document["splits"]
    if not isinstance(splits, dict):
        raise InputError(f"{source}: 'splits' is {kind_of(splits)}; a mapping of lists is needed")
    before = None
    for split in splits:
        for number, item in enumerate(list_at(splits, split, place=source)):
            place = f"{source}: splits.{split}[{number}]"
            image = text_at(item, "image_path", place=place)
            if "id" in item:
                id_at(item, "id", place=place)
            if "category" in item:
                text_at(item, "category", place=place)
            found.add(image, item.get("caption"), split=split, place=place, listed=before != image)
            before = image


def _coco(found: Found, document: Any, source: str) -> None:
    """COCO: ``images[]`` with ``id`` and ``file_name``, ``annotations[]`` with ``image_id`` and ``caption``."""
    files: dict[str, str] = {}
    found.dataset = _release_of(document.get("info"))
    for number, item in enumerate(list_at(document, "images", place=source)):
        place = f"{source}: images[{number}]"
        key, file = id_at(item, "id", place=place), text_at(item, "file_name", place=place)
        if files.get(key, file) != file:
            raise InputError(f"{place}: id {key} is that of {files[key]} too")
        found.add(file, [], split="", place=place)
        files[key] = file
    for number, item in enumerate(list_at(document, "annotations", place=source)):
        place = f"{source}: annotations[{number}]"
        key = id_at(item, "image_id", place=place)
        if key not in files:
            found.problems.append(f"{place}: there is no image {key}")
            continue
        found.add(files[key], item.get("caption"), place=place, listed=False)


def _release_of(info: Any) -> str:
    """``coco 2017`` of what COCO's own files say of themselves; nothing of other files of this form."""
    said = info if isinstance(info, dict) else {}
    return f"coco {said.get('year')}" if "COCO" in str(said.get("description")) else ""


def _karpathy(found: Found, document: Any, source: str) -> None:
    """Karpathy and Fei-Fei's splits: ``images[]`` with ``filename``, ``split``, ``sentences[].raw``."""
    found.dataset = str(document.get("dataset", ""))
    for number, item in enumerate(list_at(document, "images", place=source)):
        place = f"{source}: images[{number}]"
        folder = f"{text_at(item, 'filepath', place=place)}/" if item.get("filepath") else ""
        sentences = list_at(item, "sentences", place=place)
        texts = [one.get("raw") if isinstance(one, dict) else None for one in sentences]
        file = folder + text_at(item, "filename", place=place)
        found.add(file, texts, split=text_at(item, "split", place=place), place=place)


def _lines(root: Path, path: Path) -> Found:
    """JSON lines as of a Hugging Face image folder: ``file_name`` and ``text``, perhaps ``split``."""
    found, before = Found(root), None
    try:
        lines = read_file(path, max_bytes=MAX_JSON_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{path}: line {number}"
            item = parse_json(line, source=place)
            image = text_at(item, "file_name", place=place)
            split = text_at(item, "split", place=place) if "split" in item else ""
            found.add(image, item.get("text"), split=split, place=place, listed=before != image)
            before = image
    return found


def _table(root: Path, path: Path, columns: Columns) -> Found:
    found, before = Found(root), None
    names = [name for name in (columns.path, columns.caption, columns.split) if name]
    table = read_table(path, required=names)
    found.notes += table.notes
    for line, cells in zip(table.rows.index, table.rows.to_numpy(dtype=str).tolist(), strict=True):
        place = f"{path}: line {line}"
        if not cells[0]:
            found.problems.append(f"{place}: no path")
            continue
        split = cells[2] if columns.split else ""
        if columns.split and not split:
            raise InputError(f"{place}: the column '{columns.split}' is empty")
        found.add(cells[0], cells[1], split=split, place=place, listed=before != cells[0])
        before = cells[0]
    return found


def _beside_images(root: Path) -> Found:
    """Each image's captions in a file of its name: ``.txt``, a caption a line, or ``.json``."""
    entries, found = entries_of(root), Found(root)
    found.notes += unread_lines(entries)
    others = set(entries.others)
    for image in entries.images:
        stem = image.rpartition(".")[0]
        beside = next((name for name in (f"{stem}.txt", f"{stem}.json") if name in others), None)
        if beside is None:
            found.problems.append(f"{image}: no {stem}.txt or {stem}.json with its captions beside it")
            continue
        found.add(image, _sidecar(root / beside), split=_split_of(image), place=beside)
        others.discard(beside)
    if others:
        first = sorted(others)[0]
        found.notes.append(f"{len(others)} files are neither images nor captions of one (first: {first})")
    return found


def _split_of(image: str) -> str:
    """The split that the first folder of a path is called after, if it is."""
    first = image.partition("/")[0] if "/" in image else ""
    return first if first.lower() in SPLITS else ""


def _sidecar(path: Path) -> Any:
    """The captions in a file beside an image: the lines of a text, or a text, a list or ``caption(s)`` in JSON."""
    if path.suffix == ".txt":
        try:
            text = read_file(path).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{path}: is no text in UTF-8") from None
        return [line for line in text.splitlines() if line.strip()] or [""]
    document = read_document(path)
    if isinstance(document, dict):
        return document.get("captions", document.get("caption"))
    return document
