"""What a reader of a data set hands on: its table as found, and what is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from handclip_core.data.manifest import COLUMNS
from handclip_core.paths import printable

FOUND_COLUMNS = COLUMNS[: COLUMNS.index("subset")]
"""What a source says of an image; all texts, empty if unknown."""
NUM_NAMED = 5
"""So many bad files are named in the one line of a refusal."""


@dataclass(frozen=True)
class Collection:
    """A data set as its owner laid it out."""

    name: str
    root: Path
    table: pd.DataFrame
    """[N] rows of FOUND_COLUMNS, all texts."""
    digest: str
    """SHA-256 of the source's own table, empty if it has none."""
    problems: tuple[str, ...] = ()
    """Rows that are left out of ``table`` because they are bad, each with its place and reason."""
    read_as: tuple[str, ...] = ()
    """How the source's own table was taken where it could have meant something else: separators, comments."""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What its owner should mend: images that are left out, identities that may be two people."""


def summary(problems: Sequence[str]) -> str:
    """The first few problems in one line, and how many more there are."""
    more = len(problems) - NUM_NAMED
    return printable("; ".join(problems[:NUM_NAMED])) + (f"; and {more} more" if more > 0 else "")
