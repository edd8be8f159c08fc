"""Reading tables and paths that come from outside: byte-order marks, line ends, blanks, escapes from the root."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from handclip_core.errors import InputError


@dataclass(frozen=True)
class Table:
    """A CSV file read as texts."""

    rows: pd.DataFrame
    """Stripped texts; the index is the line of the file (the header is line 1)."""
    digest: str
    """SHA-256 of the file."""


def read_table(path: Path, *, required: Sequence[str]) -> Table:
    """Read a CSV file as stripped texts, with or without byte-order mark, with any line end and column order.

    Raises InputError if it is missing, unreadable, empty, malformed, or lacks a required column.
    """
    data = _read(path)
    try:
        # With the header as a row like others, a repeated name stays repeated and a row of too many fields is an error.
        cells = pd.read_csv(
            io.BytesIO(data),
            dtype=str,
            header=None,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: empty; a table with the columns {', '.join(required)} is needed") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({' '.join(str(error).split())})") from None
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    cells.index = pd.RangeIndex(1, len(cells) + 1)
    header = list(cells.iloc[0])
    for name in required:
        _check_column(path, header, name)
    rows = cells.iloc[1:].set_axis(header, axis=1)[list(required)]
    rows = rows[(rows != "").any(axis=1)]
    if rows.empty:
        raise InputError(f"{path}: has a header but no row")
    return Table(rows=rows, digest=hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _check_column(path: Path, columns: list[str], name: str) -> None:
    if columns.count(name) != 1:
        fault = "no column" if name not in columns else "more than one column"
        raise InputError(f"{path}: {fault} '{name}'; it has {', '.join(columns)}")


def check_folder(path: Path, *, what: str) -> None:
    """Raise InputError, which ends in ``what``, unless ``path`` is a folder that can be listed and holds something."""
    try:
        if any(True for _ in path.iterdir()):
            return
        fault = "empty folder"
    except FileNotFoundError:
        fault = "no such folder"
    except NotADirectoryError:
        fault = "not a folder"
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    raise InputError(f"{path}: {fault}; {what}")


def path_fault(root: Path, relative: str) -> str | None:
    """Why ``relative`` may not be read as a file under ``root``, or None if it may.

    Absolute paths, ``..``, links that leave ``root``, loops and missing files are faults.
    """
    parts = Path(relative.replace("\\", "/")).parts
    if not parts or Path(relative).is_absolute() or ".." in parts:
        return "is no path inside the data folder"
    try:
        target = (root / relative).resolve(strict=True)
    except FileNotFoundError:
        return "no such file"
    except PermissionError:
        return "no permission to read it"
    except (OSError, RuntimeError):
        return "is a link that leads round in a loop or cannot be followed"
    if not target.is_relative_to(root.resolve()):
        return "is a link that leaves the data folder"
    return None if target.is_file() else "is not a file"
