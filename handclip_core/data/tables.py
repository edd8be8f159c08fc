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

    Raises InputError where it is missing, unreadable, empty, malformed, or lacks a required column.
    """
    data = _read(path)
    try:
        rows = pd.read_csv(
            io.BytesIO(data),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
            index_col=False,
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: empty; a table with the columns {', '.join(required)} is needed") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({' '.join(str(error).split())})") from None
    rows.columns = rows.columns.str.strip()
    for name in required:
        _check_column(path, list(rows.columns), name)
    rows = rows[list(required)].fillna("").apply(lambda column: column.str.strip())
    rows.index = pd.RangeIndex(2, len(rows) + 2)
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
    """Raise InputError unless ``path`` is a folder that can be listed."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; {what}")


def path_fault(root: Path, relative: str, *, inside: Path | None = None) -> str | None:
    """Why ``relative`` may not be read as a file under ``root``, or None where it may.

    Absolute paths, ``..``, links that leave the folder ``inside`` (``root`` where not given), loops and missing files
    are faults.
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
    if not target.is_relative_to((inside or root).resolve()):
        return "is a link that leaves the data folder"
    return None if target.is_file() else "is not a file"
