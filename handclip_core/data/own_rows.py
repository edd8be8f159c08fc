"""A data set that a function of the user's own describes, row by row."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from handclip_core.data.manifest import Prepared
from handclip_core.data.tables import COMMENT
from handclip_core.documents import shortened
from handclip_core.errors import InputError
from handclip_core.own_code import imported, one_line
from handclip_core.paths import input_folder

FILE = "rows.csv"
KEY = "data.rows"


@dataclass(frozen=True)
class RowFormat:
    """What a task makes of rows: texts under ``needed`` keys and perhaps ``optional`` ones, in a table to prepare.

    ``prepare`` reads the images below a root that the table lists, and the columns that it has, into a folder.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    prepare: Callable[[Path, Path, Path, tuple[str, ...]], Prepared]
    """Of root, folder, table, and the optional columns that are there."""


def prepare_rows(function: str, root: Path, out: Path, form: RowFormat) -> Prepared:
    """Prepare into ``out`` what ``function``, given by its dotted path, says of the images below ``root``.

    It is called with ``root`` and gives mappings, one an image (or one a caption). They are kept in ``out`` as
    ``rows.csv``. Raises InputError if the function cannot be had or fails, and for rows of another form.
    """
    root = input_folder(root, mend="name the folder that holds the images")
    rows = _called(function, root)
    for number, row in enumerate(rows):
        _check(row, form, place=f"{KEY}: {function}: row {number}")
    columns = tuple(name for name in form.optional if any(name in row for row in rows))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, [*form.needed, *columns], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.mkdir(parents=True, exist_ok=True)
    table = out / FILE
    table.write_text(buffer.getvalue(), encoding="utf-8")
    return form.prepare(root, out, table, columns)


def _called(function: str, root: Path) -> list[Mapping[str, str]]:
    given = imported(function, key=KEY)
    if not callable(given):
        raise InputError(f"{KEY}: {function} is no function")
    try:
        rows: Iterable[Mapping[str, str]] = given(root)
        found = list(rows)
    except Exception as error:
        # Whatever the user's function raises, it is theirs to mend.
        raise InputError(f"{KEY}: {function}: {type(error).__name__}: {one_line(error)}") from None
    if not found:
        raise InputError(f"{KEY}: {function} gives no row")
    return found


def _check(row: Mapping[str, str], form: RowFormat, *, place: str) -> None:
    if not isinstance(row, Mapping):
        raise InputError(f"{place} is {shortened(repr(row))}; a mapping with {', '.join(form.needed)} is needed")
    missing = [name for name in form.needed if name not in row]
    unknown = [name for name in row if name not in (*form.needed, *form.optional)]
    if missing or unknown:
        fault = f"lacks '{missing[0]}'" if missing else f"has '{shortened(str(unknown[0]))}'"
        raise InputError(f"{place} {fault}; keys are {', '.join(form.needed)}, perhaps {', '.join(form.optional)}")
    for name, value in row.items():
        if not isinstance(value, str):
            raise InputError(f"{place}: '{name}' is {shortened(repr(value))}; a text is needed")
    first = form.needed[0]
    if row[first].strip().startswith(COMMENT):
        fault = "a text that begins with # would be passed over in a table; put ./ before it"
        raise InputError(f"{place}: '{first}' is {shortened(repr(row[first]))}; {fault}")
