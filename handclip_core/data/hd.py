"""HD, the hand dorsal images of the Hong Kong Polytechnic University (contactless; on request from its owners).

``Original Images/1-501/`` holds the identities that are trained and tested, ``502-712/`` the others, who only stand in
the galleries. Files are ``<id>_<...>.jpg``. The cut is that of the published tables (MBA-Net, CLIP-HandID, CLIP-FH).
"""

import re
from pathlib import Path

import pandas as pd

from handclip_core.data.assemble import prepare
from handclip_core.data.collection import FOUND_COLUMNS, Collection
from handclip_core.data.images import SUFFIXES
from handclip_core.data.manifest import Cut, Prepared
from handclip_core.data.tables import path_fault
from handclip_core.errors import InputError
from handclip_core.paths import input_folder
from handclip_core.types import Aspect

IDENTITY_FOLDER, DISTRACTOR_FOLDER = "1-501", "502-712"
THRESHOLD = 447
"""Up to this number an identity trains, above it is tested."""
DISTRACTOR_SHIFT = 1000
"""Added to the ids of the other identities, as in the published tables, so that no two identities share an id."""

_NAME = re.compile(r"(?P<id>[0-9]{1,9})_.*", re.DOTALL)


def prepare_hd(root: Path, out: Path, *, seed: int = 0, skip_bad: bool = False, source: str = "hd") -> Prepared:
    """Prepare HD and write it into ``out``; ``root`` is ``HD``, or its ``Original Images``.

    The aspect of all images is ``unknown``. Raises InputError for anything missing or bad, before anything is
    written; with ``skip_bad`` bad files are listed and left out.
    """
    found = read_hd(_base(root), name=source)
    return prepare(found, out, cut=Cut.PUBLISHED, assign=_sides, seed=seed, skip_bad=skip_bad)


def read_hd(base: Path, *, name: str) -> Collection:
    """The files of the two folders under ``base``. Raises InputError if a folder is missing or cannot be read."""
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    others: list[str] = []
    for folder, shift in ((IDENTITY_FOLDER, 0), (DISTRACTOR_FOLDER, DISTRACTOR_SHIFT)):
        input_folder(base / folder, mend=f"HD has the folders {IDENTITY_FOLDER} and {DISTRACTOR_FOLDER}")
        for path in sorted((base / folder).iterdir()):
            relative = f"{folder}/{path.name}"
            match = _NAME.fullmatch(path.stem)
            if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                others.append(relative)
            elif match is None:
                problems.append(f"{relative}: is not named <id>_<...>")
            elif fault := path_fault(base / folder, path.name):
                problems.append(f"{relative}: {fault}")
            else:
                rows.append({"path": relative, "identity": str(int(match["id"]) + shift)})
    table = pd.DataFrame(rows, columns=list(FOUND_COLUMNS), dtype=str).fillna("")
    table["aspect"] = Aspect.UNKNOWN.value
    notes = (f"{len(others)} files are no images by their name (first: {others[0]})",) if others else ()
    return Collection(name=name, root=base, table=table, digest="", problems=tuple(problems), notes=notes)


def _base(root: Path) -> Path:
    root = input_folder(root, mend="HD is a folder that holds 'Original Images'")
    for base in (root / "Original Images", root / "HD" / "Original Images", root):
        if (base / IDENTITY_FOLDER).is_dir():
            return base
    raise InputError(
        f"{root}: no folder 'Original Images/{IDENTITY_FOLDER}' in it; name the folder HD of the distribution"
    )


def _sides(table: pd.DataFrame) -> pd.Series:
    sides = pd.Series("train", index=table.index).mask(table["identity"].astype("int64") > THRESHOLD, "test")
    return sides.mask(table["path"].str.startswith(f"{DISTRACTOR_FOLDER}/"), "distractor")
