"""From images in a folder a class, or in a table, to a prepared data set: read, checked, cut by a seed, written."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from handclip_core.data.assemble import without_bad_files
from handclip_core.data.collection import FOUND_COLUMNS, Collection, summary
from handclip_core.data.images import SUFFIXES
from handclip_core.data.leaks import same_images
from handclip_core.data.manifest import COLUMNS, Cut, Prepared, Protocol, manifest_bytes, typed_columns, write_prepared
from handclip_core.data.splits import generator
from handclip_core.data.tables import found_path, path_fault, read_table
from handclip_core.documents import shortened
from handclip_core.errors import InputError
from handclip_core.paths import input_folder, printable
from handclip_core.tasks.classes.data import FILE, Classes
from handclip_core.tasks.classes.names import class_names, read_names
from handclip_core.types import Aspect

SPLITS: Mapping[str, str] = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""Folders that stand for a split, and what it is called."""


@dataclass(frozen=True)
class Shares:
    """Parts of each class's groups that validate and test, where folders do not say so."""

    val: float = 0.15
    test: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.val < 1 and 0 < self.test < 1 and self.val + self.test < 1):
            raise InputError(f"shares {self.val:g} and {self.test:g}: both, and what is left to train, must be above 0")


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns."""

    path: str = "path"
    label: str = "class"
    split: str | None = None
    group: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that the table must have."""
        return tuple(name for name in (self.path, self.label, self.split, self.group) if name)


def prepare_classes(
    root: Path,
    out: Path,
    *,
    table: Path | None = None,
    columns: Columns | None = None,
    names: Path | None = None,
    seed: int = 0,
    shares: Shares | None = None,
    skip_bad: bool,
) -> Prepared:
    """Prepare ``<split>/<class>/<image>`` or ``<class>/<image>``, or the images that ``table`` lists, into ``out``.

    Nothing is written if anything is refused. A folder below a class, or what the column of groups names (of one class
    or of several), is a group, whose images stay in one split, as images that look the same do. Raises InputError for
    bad files (with ``skip_bad`` they are listed and left out), classes that miss a split, and names that CLIP cannot
    read.
    """
    root = input_folder(root, mend="name the folder that holds the images")
    found = without_bad_files(_read(root) if table is None else _listed(root, table, columns or Columns()))
    if found.problems and not skip_bad:
        raise InputError(f"{root}: {summary(found.problems)}; mend or remove them, or pass --skip-bad")
    images = _grouped(found.table, root)
    folders = sorted(set(images["class"]))
    if len(folders) < 2:
        raise InputError(f"{root}: {len(folders)} classes with images in them; at least two are needed")
    called = class_names(folders, given=read_names(names, folders) if names else {})
    images["subset"] = _cut(images, shares or Shares(), seed=seed, root=root)
    return _write(replace(found, table=images), out, folders, called, seed=seed)


def _read(root: Path) -> Collection:
    """All images, with split (empty if folders do not say), class and group; raises InputError for a mixed layout."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    split = [path.name.lower() in SPLITS for path in folders]
    if any(split) and not all(split):
        other = folders[split.index(False)].name
        raise InputError(f"{root}: has folders of splits and '{other}' beside them; expected either kind alone")
    rows: list[dict[str, str]] = []
    others: list[str] = []
    problems: list[str] = []
    empty = [path.name for path in (path for path in _class_folders(folders, any(split))) if not _has_images(path)]
    if empty:
        raise InputError(f"{root}: no image of class {summary(empty)}; remove the empty folders or fill them")
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")):
        parts = path.relative_to(root).parts
        relative, inside = "/".join(parts), parts[1:] if any(split) else parts
        if path.suffix.lower() not in SUFFIXES or len(inside) < 2:
            others.append(relative)
        elif fault := path_fault(root, relative):
            problems.append(f"{relative}: {fault}")
        else:
            where = SPLITS[parts[0].lower()] if any(split) else ""
            group = f"{inside[0]}/{'/'.join(inside[1:-1])}" if len(inside) > 2 else relative
            rows.append({"path": relative, "class": inside[0].strip(), "identity": group, "split": where})
    if not rows and not problems:
        raise InputError(f"{root}: no image in it; expected <class>/<image> or train|val|test/<class>/<image>")
    notes = (f"{len(others)} files are no images of a class (first: {others[0]})",) if others else ()
    return _collection(root, rows, problems, notes)


def _listed(root: Path, path: Path, columns: Columns) -> Collection:
    """The images that a table lists; an image that is listed twice, or without its class, joins the problems."""
    table = read_table(path, required=columns.names)
    rows: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    unplaced: list[int] = []
    for line, cells in zip(table.rows.index, table.rows.to_dict("records"), strict=True):
        image, label = found_path(root, str(cells[columns.path])), str(cells[columns.label])
        split = str(cells[columns.split]) if columns.split else ""
        if split and split.lower() not in SPLITS:
            raise InputError(f"{path}: line {line}: unknown split '{shortened(split)}' (known are {', '.join(SPLITS)})")
        fault = "no path" if not image else "no class" if not label else path_fault(root, image)
        if fault or image in rows:
            problems.append(f"{path.name}: line {line}: {printable(image)}: {fault or 'is listed twice'}".rstrip())
            continue
        group = str(cells[columns.group]) if columns.group else ""
        where = SPLITS.get(split.lower(), "")
        rows[image] = {"path": image, "class": label, "identity": group or image, "split": where}
        unplaced += [] if split else [line]
    if columns.split and 0 < len(unplaced) < len(rows):
        raise InputError(f"{path}: line {unplaced[0]} is in no split, others are; put every image into one, or none")
    return _collection(root, list(rows.values()), problems, table.notes)


def _collection(
    root: Path, rows: Sequence[dict[str, str]], problems: Sequence[str], notes: tuple[str, ...]
) -> Collection:
    table = pd.DataFrame(rows, columns=[*FOUND_COLUMNS, "class", "split"], dtype=str).fillna("")
    table["aspect"] = Aspect.UNKNOWN.value
    return Collection(name="classes", root=root, table=table, digest="", problems=tuple(problems), notes=notes)


def _class_folders(folders: Sequence[Path], split: bool) -> list[Path]:
    below = [path for folder in folders for path in sorted(folder.iterdir())] if split else list(folders)
    return [path for path in below if path.is_dir() and not path.name.startswith(".")]


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _grouped(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """``table`` [N] in which images that are the same, or look it, share a group; raises InputError if they are of
    two classes.
    """
    rows = np.arange(len(table))
    pairs = [tuple(pair) for pair in same_images(root, table, rows, rows).tolist() if pair[0] < pair[1]]
    for _, copies in table.groupby("hash"):
        pairs += [(int(copies.index[0]), int(other)) for other in copies.index[1:]]
    group = table["identity"].tolist()
    classes, paths = table["class"].tolist(), table["path"].tolist()
    for one, other in sorted(pairs):
        if classes[one] != classes[other]:
            raise InputError(f"{root}: {paths[one]} and {paths[other]} are the same image in two classes; keep one")
        old, new = group[other], group[one]
        group = [new if name == old else name for name in group]
    return table.assign(identity=group)


def _cut(table: pd.DataFrame, shares: Shares, *, seed: int, root: Path) -> pd.Series:
    """The split of each image: what its folder or the table says, or a seeded cut of the groups.

    Classes are cut one after the other, those of few groups first; a group of several goes with the first of them.
    """
    given = set(table["split"]) - {""}
    if given and "train" not in given:
        raise InputError(f"{root}: no split 'train' beside {', '.join(sorted(given))}")
    subset = table["split"].replace("", "train")
    missing = [name for name in ("test", "val") if name not in given]
    uncut, split_of = table[subset == "train"], dict[str, str]()
    groups_of = {str(folder): sorted(set(part["identity"])) for folder, part in uncut.groupby("class")}
    for folder, groups in sorted(groups_of.items(), key=lambda item: len(item[1])):
        if len(groups) <= len(missing):
            raise InputError(
                f"{root}: class '{folder}' has {len(groups)} images or groups that differ; {len(missing) + 1} are "
                "needed, one for each split"
            )
        placed = Counter(split_of[group] for group in groups if group in split_of)
        free, left = [group for group in groups if group not in split_of], len(groups)
        generator(seed, "classes", folder).shuffle(free)
        for name in missing:
            most = left - (len(missing) if name == missing[0] else 1)
            share = shares.test if name == "test" else shares.val
            num = max(1, min(most, round(share * len(groups))), placed[name])
            taken, free = free[: num - placed[name]], free[num - placed[name] :]
            split_of |= dict.fromkeys(taken, name)
            left -= num
        split_of |= dict.fromkeys(free, "train")
    subset[uncut.index] = uncut["identity"].map(split_of)
    for folder in sorted(set(table["class"])):
        for name in ("train", "val", "test"):
            if not ((table["class"] == folder) & (subset == name)).any():
                raise InputError(f"{root}: class '{folder}' has no image in {name}; every split needs every class")
    return subset


def _write(found: Collection, out: Path, folders: Sequence[str], names: tuple[str, ...], *, seed: int) -> Prepared:
    manifest = typed_columns(found.table)[list(COLUMNS)]
    digest = hashlib.sha256(manifest_bytes(manifest)).hexdigest()
    protocol = Protocol(
        source=found.name,
        cut=Cut.COMMON,
        seed=seed,
        root=str(found.root.resolve()),
        source_hash=hashlib.sha256("".join(manifest["hash"]).encode()).hexdigest(),
        manifest_hash=digest,
        closed_val=(),
        draws={"val": (), "test": ()},
        skipped=found.problems,
        notes=found.notes,
    )
    prepared = Prepared(root=Path(protocol.root), folder=out, manifest=manifest, protocol=protocol)
    place = {folder: number for number, folder in enumerate(folders)}
    label = tuple(place[folder] for folder in found.table["class"])
    classes = Classes(manifest_hash=digest, names=names, label=label)
    write_prepared(prepared, beside={FILE: classes.model_dump_json(indent=1)})
    return prepared
