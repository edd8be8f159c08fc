"""From images with captions to a prepared data set: read, checked, joined, cut by a seed, written."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from handclip_core.data.assemble import without_bad_files
from handclip_core.data.collection import FOUND_COLUMNS, Collection, summary
from handclip_core.data.layouts import name_fault
from handclip_core.data.leaks import same_images
from handclip_core.data.manifest import COLUMNS, Cut, Prepared, Protocol, manifest_bytes, typed_columns, write_prepared
from handclip_core.data.splits import generator
from handclip_core.data.tables import path_fault
from handclip_core.errors import InputError
from handclip_core.paths import input_folder, printable
from handclip_core.tasks.captions.found import Found
from handclip_core.tasks.captions.readers import Columns, read_captions
from handclip_core.tasks.captions.table import FILE, SOURCE, CaptionTable
from handclip_core.types import Aspect

SUBSETS = ("train", "val", "test")
LEAST = 2
"""Images of a split: with one, there is nothing to choose from."""
PUBLISHED: Mapping[str, Mapping[str, int]] = {
    "coco": {"train": 113_287, "val": 5_000, "test": 5_000},
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
    "flickr8k": {"train": 6_000, "val": 1_000, "test": 1_000},
}
"""Images in the splits of Karpathy and Fei-Fei 2015 (arXiv 1412.2306), with ``restval`` in COCO's training images."""
RELEASED: Mapping[str, Mapping[str, int]] = {
    "coco 2014": {"train": 82_783, "val": 40_504},
    "coco 2017": {"train": 118_287, "val": 5_000},
}
"""Images in each of COCO's own files of captions (Chen 2015, arXiv 1504.00325), which are cut by a seed here."""


@dataclass(frozen=True)
class Shares:
    """Parts of the images that validate and test, where the source has no such split."""

    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        if not (0 < self.val < 1 and 0 < self.test < 1 and self.val + self.test < 1):
            raise InputError(f"shares {self.val:g} and {self.test:g}: both, and what is left to train, must be above 0")


def prepare_captions(
    root: Path,
    out: Path,
    *,
    annotations: Path | None = None,
    columns: Columns | None = None,
    seed: int = 0,
    shares: Shares | None = None,
    skip_bad: bool,
) -> Prepared:
    """Prepare images with captions into ``out``; nothing is written if anything is refused.

    Files of equal content become one image with the captions of all, and images that look the same stay in one split.
    Raises InputError for bad entries and files, and for an image in two splits (with ``skip_bad`` they are listed and
    left out; of an image in two splits the test keeps its copy), and for a split without images.
    """
    root = input_folder(root, mend="name the folder that holds the images")
    found = read_captions(root, annotations, columns=columns)
    collection = without_bad_files(_collection(found))
    table, problems, notes = _joined(collection, found)
    problems = (*collection.problems, *problems)
    if problems and not skip_bad:
        told = summary([problem.removeprefix(f"{annotations}: ") for problem in problems])
        raise InputError(f"{annotations or root}: {told}; mend or remove them, or pass --skip-bad")
    if table.empty:
        raise InputError(f"{root}: no usable image ({summary(problems)})")
    table["subset"] = _cut(table, shares or Shares(), seed=seed, root=root)
    collection = replace(collection, table=table, problems=problems, notes=(*collection.notes, *notes))
    return _write(collection, out, found, seed=seed)


def count_differences(prepared: Prepared, dataset: str) -> list[str]:
    """Where the images of each split differ in number from those published for ``dataset``, a line each.

    Of a file that is one split of COCO's, whether there are as many images as in one of them.
    """
    total, files = len(prepared.manifest), RELEASED.get(dataset, {})
    if files and total not in files.values():
        published = " or ".join(f"{number:,} ({name})" for name, number in files.items())
        return [f"{dataset}: {total:,} images, {published} published"]
    counts = prepared.manifest["subset"].value_counts()
    return [
        f"{dataset}: {counts.get(name, 0):,} images in {name}, {number:,} published"
        for name, number in PUBLISHED.get(dataset, {}).items()
        if counts.get(name, 0) != number
    ]


def _collection(found: Found) -> Collection:
    """The images that have captions and may be read; the others join the problems."""
    problems, rows = list(found.problems), []
    for path, image in found.images.items():
        fault = name_fault(path) or path_fault(found.root, path)
        fault = fault or ("" if image.texts else "has no caption")
        if fault:
            problems.append(f"{printable(path)}: {fault}")
        else:
            rows.append({"path": path, "identity": path, "split": image.split})
    table = pd.DataFrame(rows, columns=[*FOUND_COLUMNS, "split"], dtype=str).fillna("")
    table["aspect"] = Aspect.UNKNOWN.value
    notes = list(found.notes)
    if found.num_again:
        notes.append(f"{found.num_again} images are listed more than once; their captions are joined")
    if found.num_long:
        notes.append(f"{found.num_long} captions were cut to their first characters, more than any text tower reads")
    return Collection(
        name=SOURCE, root=found.root, table=table, digest="", problems=tuple(problems), notes=tuple(notes)
    )


def _joined(collection: Collection, found: Found) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The table without copies, whose captions join those of the first; with problems and notes.

    Images that look the same share the identity, that is their group.
    """
    table, problems, dropped = collection.table, [], set[int]()
    split, paths = table["split"].tolist(), table["path"].tolist()
    num_copies = 0
    for one, other in _copies(table):
        if split[one] != split[other]:
            problems.append(_leak(paths, split, one, other))
            dropped.add(_trained(split, one, other))
            continue
        kept = found.images[paths[one]]
        kept.texts += [text for text in found.images[paths[other]].texts if text not in kept.texts]
        dropped.add(other)
        num_copies += 1
    group = table["identity"].tolist()
    rows = np.array([row for row in range(len(table)) if row not in dropped], np.int64)
    for one, other in _alike(collection.root, table, rows):
        if split[one] != split[other]:
            problems.append(_leak(paths, split, one, other))
            dropped.add(_trained(split, one, other))
        else:
            old, new = group[other], group[one]
            group = [new if name == old else name for name in group]
    notes = (f"{num_copies} files are copies of another, byte for byte: one image each",) if num_copies else ()
    kept_rows = [row for row in range(len(table)) if row not in dropped]
    return table.assign(identity=group).iloc[kept_rows].reset_index(drop=True), tuple(problems), notes


def _copies(table: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Each first file of a content with each later one."""
    for _, copies in table.groupby("hash", sort=False):
        for other in copies.index[1:]:
            yield int(copies.index[0]), int(other)


def _alike(root: Path, table: pd.DataFrame, rows: np.ndarray) -> list[tuple[int, int]]:
    if len(rows) == 0:
        return []
    return sorted((i, j) for i, j in same_images(root, table, rows, rows).tolist() if i < j)


def _leak(paths: list[str], split: list[str], one: int, other: int) -> str:
    return f"{paths[one]} ({split[one]}) and {paths[other]} ({split[other]}): the same image in two splits"


def _trained(split: list[str], one: int, other: int) -> int:
    """Which of two is the farther from the test."""
    return min((one, other), key=lambda row: SUBSETS.index(split[row]) if split[row] else 0)


def _cut(table: pd.DataFrame, shares: Shares, *, seed: int, root: Path) -> pd.Series:
    """The split of each image: what the source says, or a seeded cut of the groups."""
    given = set(table["split"])
    if "" in given and len(given) > 1:
        row = table[table["split"] == ""].iloc[0]
        raise InputError(f"{root}: {row['path']} is in no split, others are; put every image into one, or none")
    if given != {""} and "train" not in given:
        raise InputError(f"{root}: no split 'train' beside {', '.join(sorted(given))}")
    subset = table["split"].replace("", "train")
    missing = [name for name in ("test", "val") if name not in given]
    groups = sorted(set(table.loc[subset == "train", "identity"]))
    generator(seed, "captions").shuffle(groups)
    total = len(groups)
    for name in missing:
        num = max(LEAST, round((shares.test if name == "test" else shares.val) * total))
        subset[table.index[table["identity"].isin(groups[:num]) & (subset == "train")]] = name
        groups = groups[num:]
    for name in SUBSETS:
        if (subset == name).sum() < LEAST:
            raise InputError(f"{root}: {(subset == name).sum()} images in {name}; each split needs {LEAST} at least")
    return subset


def _write(collection: Collection, out: Path, found: Found, *, seed: int) -> Prepared:
    manifest = typed_columns(collection.table)[list(COLUMNS)]
    digest = hashlib.sha256(manifest_bytes(manifest)).hexdigest()
    captions = [found.images[path].texts for path in manifest["path"]]
    table = CaptionTable.of(captions, manifest_hash=digest)
    protocol = Protocol(
        source=collection.name,
        cut=Cut.COMMON,
        seed=seed,
        root=str(collection.root.resolve()),
        source_hash=hashlib.sha256("".join(manifest["hash"]).encode()).hexdigest(),
        manifest_hash=digest,
        closed_val=(),
        draws={"val": (), "test": ()},
        skipped=collection.problems,
        warnings=(),
        notes=collection.notes,
    )
    prepared = Prepared(root=Path(protocol.root), folder=out, manifest=manifest, protocol=protocol)
    differences = tuple(count_differences(prepared, found.dataset))
    prepared = replace(prepared, protocol=protocol.model_copy(update={"warnings": differences}))
    write_prepared(prepared, beside={FILE: table.model_dump_json()})
    return prepared
