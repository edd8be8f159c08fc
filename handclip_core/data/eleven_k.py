"""11k Hands as distributed: ``HandInfo.csv`` beside ``Hands/`` (Afifi 2019, doi 10.1007/s11042-019-7424-8)."""

from pathlib import Path

import pandas as pd

from handclip_core.data.assemble import prepare
from handclip_core.data.collection import FOUND_COLUMNS, Collection
from handclip_core.data.manifest import Cut, Prepared
from handclip_core.data.splits import halves
from handclip_core.data.tables import found_path, path_fault, read_table, words_of
from handclip_core.data.who import fold_identities
from handclip_core.errors import InputError
from handclip_core.paths import input_folder
from handclip_core.types import HAND_ASPECTS

TABLE_NAME = "HandInfo.csv"
FOLDER_NAME = "Hands"

COLUMN_OF = {
    "id": "identity",
    "age": "age",
    "gender": "gender",
    "skinColor": "skin_tone",
    "accessories": "accessories",
    "nailPolish": "nail_polish",
    "aspectOfHand": "aspect",
    "imageName": "path",
    "irregularities": "irregularities",
}
"""The columns of ``HandInfo.csv`` and what the manifest calls them."""

NUMBERS = ("identity", "age", "accessories", "nail_polish", "irregularities")
"""Columns of whole numbers, which a spreadsheet may have saved as ``21.0``."""

THRESHOLDS = {"dorsal right": 1050, "dorsal left": 1037, "palmar right": 1051, "palmar left": 1042}
"""The published cuts: up to this number an identity trains, above it is tested (MBA-Net, CLIP-HandID, CLIP-FH)."""


def prepare_eleven_k(
    root: Path,
    out: Path,
    *,
    cut: Cut = Cut.PUBLISHED,
    seed: int = 0,
    skip_bad: bool = False,
    source: str = "11k",
) -> Prepared:
    """Prepare 11k Hands, or any data set of its layout (name it with ``source``), and write it into ``out``.

    Images with accessories are left out, as in the published protocol. No image is copied. Raises InputError for
    anything missing or bad, before anything is written; with ``skip_bad`` bad rows and files are listed and left out.
    """
    found = read_eleven_k(root, name=source)
    assign = _published_sides if cut is Cut.PUBLISHED else _common_sides
    return prepare(found, out, cut=cut, assign=assign, seed=seed, skip_bad=skip_bad)


def read_eleven_k(root: Path, *, name: str) -> Collection:
    """The rows without accessories of ``root/HandInfo.csv``, with those that are bad set aside.

    Raises InputError if the table or the folder is missing, empty, or lacks a column.
    """
    layout = f"11k Hands is a folder that holds {TABLE_NAME} and {FOLDER_NAME}/"
    root = input_folder(root, mend=layout)
    input_folder(root / FOLDER_NAME, mend=layout)
    read = read_table(root / TABLE_NAME, required=tuple(COLUMN_OF))
    rows = read.rows.rename(columns=COLUMN_OF)
    rows["aspect"] = rows["aspect"].map(words_of)
    for column in NUMBERS:
        rows[column] = rows[column].str.replace(r"^([0-9]+)\.0$", r"\1", regex=True)
    rows["path"] = [found_path(root / FOLDER_NAME, name) for name in rows["path"]]
    rows["identity"], who = fold_identities(rows["identity"])
    names = set(rows["path"])
    duplicates = rows.duplicated()
    rows = rows[~duplicates]
    faults = _faults(rows, root)
    usable = rows[faults.eq("") & rows["accessories"].eq("0")].copy()
    usable["path"] = FOLDER_NAME + "/" + usable["path"]
    return Collection(
        name=name,
        root=root,
        table=usable.reindex(columns=list(FOUND_COLUMNS), fill_value=""),
        digest=read.digest,
        problems=tuple(f"{TABLE_NAME} line {line}: {fault}" for line, fault in faults[faults.ne("")].items()),
        warnings=who,
        read_as=read.notes,
        notes=_notes(root, names, num_duplicates=int(duplicates.sum())),
    )


def _faults(rows: pd.DataFrame, root: Path) -> pd.Series:
    """What is wrong with each row, empty if nothing is; rows with accessories need no file."""
    faults = pd.Series("", index=rows.index)

    def mark(wrong: pd.Series, text: pd.Series | str) -> None:
        faults[wrong & faults.eq("")] = text

    mark(rows["path"].eq(""), "no imageName")
    mark(~rows["identity"].str.fullmatch(r"[0-9]{1,18}"), "id '" + rows["identity"] + "' is not a number")
    mark(~rows["aspect"].isin([*HAND_ASPECTS]), "unknown aspectOfHand '" + rows["aspect"] + "'")
    for column, original in (
        ("accessories", "accessories"),
        ("nail_polish", "nailPolish"),
        ("irregularities", "irregularities"),
    ):
        mark(~rows[column].isin(["0", "1"]), f"{original} '" + rows[column] + "' is neither 0 nor 1")
    mark(~rows["age"].str.fullmatch(r"[0-9]{0,3}"), "age '" + rows["age"] + "' is not a number")
    mark(rows["path"].duplicated(keep=False), rows["path"] + " is described twice, differently")
    check = faults.eq("") & rows["accessories"].eq("0")
    found = rows.loc[check, "path"].map(lambda name: _path_fault(root / FOLDER_NAME, name))
    faults.update(found)
    return faults


def _path_fault(images: Path, name: str) -> str:
    fault = path_fault(images, name)
    return f"{name} {fault}" if fault else ""


def _notes(root: Path, names: set[str], *, num_duplicates: int) -> tuple[str, ...]:
    present = {path.name for path in (root / FOLDER_NAME).iterdir() if not path.name.startswith(".")}
    without_row = sorted(present - names)
    notes = []
    if num_duplicates:
        notes.append(f"{TABLE_NAME}: {num_duplicates} rows are repeated word for word and count once")
    if without_row:
        notes.append(f"{FOLDER_NAME}/: {len(without_row)} files have no row in {TABLE_NAME} (first: {without_row[0]})")
    return tuple(notes)


def _published_sides(table: pd.DataFrame) -> pd.Series:
    number = table["identity"].astype("int64")
    sides = pd.Series("test", index=table.index).where(number > table["aspect"].map(THRESHOLDS), "train")
    for aspect, part in sides.groupby(table["aspect"]):
        if part.nunique() < 2:
            raise InputError(
                f"the published cut of {aspect} lies at identity {THRESHOLDS[str(aspect)]}, and all its identities are "
                f"on "
                "one side of it; use --cut common"
            )
    return sides


def _common_sides(table: pd.DataFrame) -> pd.Series:
    identities = sorted(set(table["identity"]), key=lambda identity: (int(identity), identity))
    return pd.Series("train", index=table.index).mask(table["identity"].isin(halves(identities)), "test")
