"""A user's own data: ``<identity>/<image>``, or a CSV that names the image, the identity and perhaps the aspect."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from handclip_core.data.assemble import prepare
from handclip_core.data.collection import FOUND_COLUMNS, Collection
from handclip_core.data.images import SUFFIXES
from handclip_core.data.manifest import Cut, Prepared
from handclip_core.data.splits import generator, halves
from handclip_core.data.tables import check_folder, path_fault, read_table
from handclip_core.errors import InputError
from handclip_core.types import Aspect

TEST_SHARE = 0.5
"""Share of the identities that are tested, about that of the published tables."""


def prepare_folder(
    root: Path,
    out: Path,
    *,
    table: Path | None = None,
    path_column: str = "path",
    identity_column: str = "identity",
    aspect_column: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    test_share: float = TEST_SHARE,
    source: str = "folder",
) -> Prepared:
    """Prepare images of one folder an identity, or those that ``table`` names relative to ``root``, into ``out``.

    Identities are cut into training and test at random by ``seed``. Without ``aspect_column`` every aspect is
    ``unknown``. Raises InputError for anything missing or bad, before anything is written; with ``skip_bad`` bad rows
    and files are listed and left out.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test_share {test_share}: it must lie between 0 and 1")
    check_folder(root, what="name the folder that holds the images")
    if table is None:
        found = read_folders(root, name=source)
    else:
        found = read_listed(root, table, path_column, identity_column, aspect_column, name=source)

    def assign(rows: pd.DataFrame) -> pd.Series:
        identities = sorted(set(rows["identity"]))
        generator(seed, "test people").shuffle(identities)
        tested = halves(identities, test_share=test_share)
        return pd.Series("train", index=rows.index).mask(rows["identity"].isin(tested), "test")

    return prepare(found, out, cut=Cut.COMMON, assign=assign, seed=seed, skip_bad=skip_bad)


def read_folders(root: Path, *, name: str) -> Collection:
    """The images of ``root/<identity>/<image>``. Raises InputError if there is none."""
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    others: list[str] = []
    for path in _two_levels(root):
        relative = path.relative_to(root).as_posix()
        if len(path.relative_to(root).parts) != 2 or path.suffix.lower() not in SUFFIXES:
            others.append(relative)
        elif fault := _name_fault(relative) or path_fault(root, relative):
            problems.append(f"{_printable(relative)}: {fault}")
        else:
            rows.append({"path": relative, "identity": path.parent.name.strip()})
    if not rows and not problems:
        raise InputError(f"{root}: no image in it; expected <identity>/<image>, or a CSV named with --table")
    table = pd.DataFrame(rows, columns=list(FOUND_COLUMNS), dtype=str).fillna("")
    table["aspect"] = Aspect.UNKNOWN.value
    notes = (f"{len(others)} entries are no <identity>/<image> (first: {_printable(others[0])})",) if others else ()
    return Collection(name=name, root=root, table=table, digest="", problems=tuple(problems), notes=notes)


def _two_levels(root: Path) -> Iterator[Path]:
    """Everything that is no folder in ``root`` or one level below it, and the folders below that, sorted."""
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield entry
            continue
        try:
            yield from (path for path in sorted(entry.iterdir()) if not path.name.startswith("."))
        except OSError as error:
            raise InputError(f"{entry}: cannot be read ({error.strerror})") from None


def _name_fault(relative: str) -> str | None:
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) <= 0xDFFF for letter in relative):
        return "has a name that is not text in UTF-8; rename it"
    return None


def _printable(relative: str) -> str:
    return relative.encode("utf-8", "backslashreplace").decode("utf-8")


def read_listed(
    root: Path, table: Path, path_column: str, identity_column: str, aspect_column: str | None, *, name: str
) -> Collection:
    """The rows of ``table``. Raises InputError if it is missing, malformed, empty or lacks a column."""
    names = {path_column: "path", identity_column: "identity"} | ({aspect_column: "aspect"} if aspect_column else {})
    if len(names) != (3 if aspect_column else 2):
        raise InputError(f"{table}: the columns of path, identity and aspect must be different ones")
    read = read_table(table, required=tuple(names))
    rows = read.rows.rename(columns=names)
    duplicates = rows.duplicated()
    rows = rows[~duplicates].reindex(columns=list(FOUND_COLUMNS), fill_value="")
    rows["aspect"] = rows["aspect"].str.lower().replace("", Aspect.UNKNOWN.value)
    disputed = rows["path"].duplicated(keep=False)
    faults = [
        _row_fault(root, path, identity, aspect, is_disputed=is_disputed)
        for path, identity, aspect, is_disputed in zip(
            rows["path"], rows["identity"], rows["aspect"], disputed, strict=True
        )
    ]
    good = [fault is None for fault in faults]
    problems = [f"{table.name} line {line}: {fault}" for line, fault in zip(rows.index, faults, strict=True) if fault]
    notes = [f"{table.name}: {int(duplicates.sum())} rows are repeated and count once"] if duplicates.any() else []
    return Collection(
        name=name, root=root, table=rows[good], digest=read.digest, problems=tuple(problems), notes=tuple(notes)
    )


def _row_fault(root: Path, path: str, identity: str, aspect: str, *, is_disputed: bool) -> str | None:
    if not path or not identity:
        return "no path" if not path else f"{path} has no identity"
    if aspect not in [*Aspect]:
        return f"unknown aspect '{aspect}' (one of {', '.join(Aspect)})"
    if is_disputed:
        return f"{path} is described twice, differently"
    fault = path_fault(root, path)
    return f"{path} {fault}" if fault else None
