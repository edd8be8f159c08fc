"""Reading tables and paths that come from outside: encodings, separators, comments, spellings, ways out of a root."""

import csv
import hashlib
import io
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import pandas as pd

from handclip_core.errors import InputError
from handclip_core.paths import printable, read_file

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
COMMENT = "#"
_SPREADSHEET = re.compile(r'"?sep=.?"?', re.IGNORECASE)
"""A first line by which spreadsheets are told the separator."""
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Table:
    """A CSV file read as texts."""

    rows: pd.DataFrame
    """Stripped texts; the index is the line of the file (the header is line 1)."""
    digest: str
    """SHA-256 of the file."""
    notes: tuple[str, ...] = ()
    """What was found out about the file that its owner should know."""


def read_table(path: Path, *, required: Sequence[str]) -> Table:
    """Read a CSV file as stripped texts: UTF-8 or UTF-16, any line end, column order and common separator.

    Lines that begin with ``#`` are passed over, and so are empty fields behind the last column. Raises InputError, with
    the line, if the file is missing, unreadable, empty, malformed, or lacks a required column; then it names those that
    are there.
    """
    data = read_file(path)
    text = _decoded(path, data)
    separator = _separator(text, required)
    lines = _cells(path, text, separator)
    if _tells_separator(text):
        lines = lines[1:]
    comments = [line for line, cells in lines if cells[0].startswith(COMMENT)]
    lines = [(line, cells) for line, cells in lines if line not in set(comments)]
    if not lines:
        raise InputError(f"{path}: empty; a table with the columns {', '.join(required)} is needed")
    _, header = lines.pop(0)
    for name in required:
        _check_column(path, header, name)
    at = [header.index(name) for name in required]
    rows = [(line, _fitted(path, line, cells, len(header))) for line, cells in lines]
    table = pd.DataFrame(
        [[cells[place] for place in at] for _, cells in rows], columns=list(required), index=[line for line, _ in rows]
    )
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{path}: has a header but no row")
    notes = [] if separator == "," else [f"{path.name}: fields are separated by {SEPARATORS[separator]}"]
    if comments:
        notes.append(f"{path.name}: {len(comments)} lines begin with # and are passed over (first: line {comments[0]})")
    return Table(rows=table, digest=hashlib.sha256(data).hexdigest(), notes=tuple(notes))


def _decoded(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line}: not a CSV file in UTF-8; save it as 'CSV UTF-8'") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}: line {line}: holds a NUL byte; remove it, or save the table anew as CSV in UTF-8")
    return text


def _separator(text: str, required: Sequence[str]) -> str:
    """What stands between the fields of the first line that is no comment: that by which most columns are found."""
    lines = iter(text.splitlines()[_tells_separator(text) :])
    lines = (line for line in lines if line.strip() and not line.lstrip().startswith(COMMENT))
    header = next(lines, "")

    def found(separator: str) -> tuple[int, int]:
        names = {name.strip().strip('"').strip() for name in header.split(separator)}
        return len(names & set(required)), header.count(separator)

    return max(SEPARATORS, key=found)


def _tells_separator(text: str) -> bool:
    """Whether the first line is ``sep=;`` or the like."""
    return _SPREADSHEET.fullmatch(text.partition("\n")[0].strip()) is not None


def _cells(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """The stripped fields of each line that has any, with its number; that of its beginning if it spans several."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    found, before = [], 0
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append((before + 1, stripped))
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{path}: line {before + 1}: not readable as CSV ({error})") from None
    return found


def _fitted(path: Path, line: int, cells: list[str], width: int) -> list[str]:
    if any(cells[width:]):
        fields = f"{len(cells)} fields where the header has {width}"
        raise InputError(f"{path}: line {line}: {fields}; put texts that hold the separator into quotes")
    return (cells + [""] * width)[:width]


def _check_column(path: Path, columns: list[str], name: str) -> None:
    if columns.count(name) != 1:
        fault = "no column" if name not in columns else "more than one column"
        have = ", ".join(column or "''" for column in columns)
        raise InputError(f"{path}: {fault} '{name}'; it has {printable(have)}")


def words_of(text: str) -> str:
    """A value of a table in small letters and single blanks: ``Dorsal_Right`` is ``dorsal right``."""
    return " ".join(text.lower().replace("_", " ").replace("-", " ").split())


def found_path(root: Path, given: str) -> str:
    """``given`` as the one way to write a path under ``root``: relative, with forward slashes, without detours.

    An absolute path inside ``root`` is cut, backslashes are turned and the other Unicode form is tried if only that is
    there. What is no path inside ``root`` comes back as it was, for `path_fault` to name.
    """
    for text in _spellings(root, given):
        relative = posixpath.normpath(text) if text else text
        if ".." not in Path(text).parts and (root / relative).exists():
            return relative
    turned = given if "\\" not in given or PureWindowsPath(given).is_absolute() else given.replace("\\", "/")
    return posixpath.normpath(turned) if turned and ".." not in Path(turned).parts else turned


def _spellings(root: Path, given: str) -> Iterator[str]:
    for text in dict.fromkeys((given, given.replace("\\", "/"))):
        bases = [base for base in (root.absolute(), root.resolve()) if Path(text).is_relative_to(base)]
        inside = str(Path(text).relative_to(bases[0])) if bases else text
        if not Path(inside).is_absolute():
            yield from dict.fromkeys((inside, *(unicodedata.normalize(form, inside) for form in ("NFC", "NFD"))))


def path_fault(root: Path, relative: str) -> str | None:
    """Why ``relative`` may not be read as a file under ``root``, or None if it may.

    Absolute paths, ``..``, control characters, links that leave ``root``, loops and missing files are faults.
    """
    parts = Path(relative.replace("\\", "/")).parts
    if any(ord(letter) < 32 for letter in relative):
        return "holds a line end or another control character"
    if not parts or Path(relative).is_absolute() or PureWindowsPath(relative).is_absolute() or ".." in parts:
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
