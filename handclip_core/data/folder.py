"""A user's own data: in folders, under names that tell, in ready splits, or listed in a table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from handclip_core.data.assemble import prepare
from handclip_core.data.collection import FOUND_COLUMNS, Collection
from handclip_core.data.layouts import by_name, entries_of, read_folders, read_named
from handclip_core.data.manifest import SESSION, Cut, Prepared
from handclip_core.data.ready_splits import ReadySplits, are_ready, read_ready
from handclip_core.data.splits import generator, halves
from handclip_core.data.tables import found_path, path_fault, read_table, words_of
from handclip_core.data.who import fold_identities
from handclip_core.errors import InputError
from handclip_core.paths import input_folder, printable
from handclip_core.types import Aspect

TEST_SHARE = 0.5
"""Share of the identities that are tested, about that of the published tables."""

NO_SESSION = (
    "sessions are not known, and images of one burst in query and gallery flatter the scores; "
    "folders <identity>/<session>/ or --session-column tell them"
)


def prepare_folder(
    root: Path,
    out: Path,
    *,
    table: Path | None = None,
    path_column: str = "path",
    identity_column: str = "identity",
    aspect_column: str | None = None,
    session_column: str | None = None,
    name_pattern: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    test_share: float = TEST_SHARE,
    source: str = "folder",
) -> Prepared:
    """Prepare images of one folder an identity, or those that ``table`` names relative to ``root``, into ``out``.

    Identities are cut into training and test at random by ``seed``, unless the folders are splits already. What the
    names do not tell (``name_pattern``) nor a column is unknown. Raises InputError for anything missing or bad, before
    anything is written; with ``skip_bad`` bad rows and files are listed and left out.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test_share {test_share}: it must lie between 0 and 1")
    root = input_folder(root, mend="name the folder that holds the images")
    named = None if name_pattern is None else by_name(name_pattern)
    ready: ReadySplits | None = None
    if table is not None:
        columns = {path_column: "path", identity_column: "identity"}
        columns |= {name: kind for name, kind in ((aspect_column, "aspect"), (session_column, SESSION)) if name}
        if len(columns) != 2 + bool(aspect_column) + bool(session_column):
            raise InputError(f"{table}: the columns of path, identity, aspect and session must be different ones")
        found = read_listed(root, table, columns, name=source)
    elif are_ready(root):
        found, ready = read_ready(root, name=source, named=named)
        found = replace(found, notes=(*found.notes, "split as the folders are: train, val, test, query, gallery"))
    elif named is not None:
        found = read_named(root, named, name=source)
    else:
        found = read_folders(root, name=source)

    if found.table[SESSION].eq("").all():
        found = replace(found, notes=(*found.notes, NO_SESSION))

    def assign(rows: pd.DataFrame) -> pd.Series:
        if ready is not None:
            return rows["path"].map(ready.subset_of)
        identities = sorted(set(rows["identity"]))
        generator(seed, "test people").shuffle(identities)
        tested = halves(identities, test_share=test_share)
        return pd.Series("train", index=rows.index).mask(rows["identity"].isin(tested), "test")

    return prepare(found, out, cut=Cut.COMMON, assign=assign, seed=seed, skip_bad=skip_bad, ready=ready)


def read_listed(root: Path, table: Path, columns: Mapping[str, str], *, name: str) -> Collection:
    """The rows of ``table``, whose ``columns`` are given by what they are here.

    Raises InputError if it is missing, malformed, empty or lacks a column.
    """
    read = read_table(table, required=tuple(columns))
    rows = read.rows.rename(columns=dict(columns)).reindex(columns=list(FOUND_COLUMNS), fill_value="")
    rows["path"] = [found_path(root, path) for path in rows["path"]]
    rows["aspect"] = rows["aspect"].map(words_of).replace("", Aspect.UNKNOWN.value)
    duplicates = rows.duplicated()
    rows = rows[~duplicates]
    lines_of = rows.groupby("path").groups
    faults = {
        line: fault
        for line, path, identity, aspect in zip(rows.index, rows["path"], rows["identity"], rows["aspect"], strict=True)
        if (fault := _row_fault(root, path, identity, aspect, lines=list(lines_of[path])))
    }
    good = rows[~rows.index.isin(list(faults))].copy()
    good["identity"], who = fold_identities(good["identity"])
    repeated = [f"{table.name}: {int(duplicates.sum())} rows are repeated and count once"] if duplicates.any() else []
    return Collection(
        name=name,
        root=root,
        table=good,
        digest=read.digest,
        problems=tuple(f"{table.name} line {line}: {fault}" for line, fault in faults.items()),
        read_as=read.notes,
        notes=(*repeated, *_without_row(root, table, set(rows["path"]))),
        warnings=who,
    )


def _without_row(root: Path, table: Path, named: set[str]) -> list[str]:
    """That images of the folder are not in ``table``, in numbers."""
    try:
        left = [image for image in entries_of(root).images if image not in named]
    except InputError as error:
        return [f"{table.name}: images without a row were not counted: {error}"]
    return [f"{table.name}: {len(left)} images of the folder have no row (first: {printable(left[0])})"] if left else []


def _row_fault(root: Path, path: str, identity: str, aspect: str, *, lines: list[int]) -> str | None:
    if not path or not identity:
        return "no path" if not path else f"{path} has no identity"
    if aspect not in [*Aspect]:
        return f"unknown aspect '{aspect}' (one of {', '.join(Aspect)})"
    if len(lines) > 1:
        return f"{path} is described twice, differently (lines {lines[0]} and {lines[1]})"
    if any(ord(letter) < 32 for letter in identity):
        return f"the identity '{identity}' holds a line end or another control character"
    fault = path_fault(root, path)
    return f"{path} {fault}" if fault else None
