"""A report as one HTML file: styles and pictures inside, no script, nothing fetched, every text escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from tune_jobs.reporting.finals.tables import Table

STYLE = """
:root { color-scheme: light dark; --ink: #1a1f24; --soft: #5b6670; --line: #d6dbe0; --paper: #fff; --blue: #1f6feb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa4ad; --line: #3a424a; --paper: #14181c; --blue: #6ea8ff; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
.word { text-align: left; }
tbody tr:first-child td { font-weight: 600; }
.matrix tbody tr:first-child td { font-weight: inherit; }
svg { width: 100%; max-width: 60rem; font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .mark { fill: var(--soft); text-anchor: middle; }
.name { fill: var(--ink); text-anchor: end; }
.bar { stroke: var(--blue); stroke-width: 6; opacity: 0.35; } .mean { stroke: var(--blue); stroke-width: 2.5; }
.seed { fill: var(--ink); opacity: 0.6; } .swept { fill: none; stroke: #d1692a; stroke-width: 1.8; }
"""


@dataclass(frozen=True)
class Section:
    """A titled part of the page: sentences, a table (its figures shaded by ``shades``, from 0 to 1), or a picture.

    ``picture`` is markup; whoever makes it escapes the texts in it.
    """

    title: str
    lines: tuple[str, ...] = ()
    table: Table | None = None
    shades: NDArray[np.float64] | None = None
    picture: str = ""


def page(title: str, headline: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as text."""
    body = "\n".join(_section(section) for section in sections)
    lead = "\n".join(f"<p>{escape(line)}</p>" for line in headline)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{lead}\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.lines:
        parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in section.lines), "</ul>"]
    if section.table is not None:
        parts.append(_table(section.table, section.shades))
    return "\n".join([*parts, section.picture])


def _table(table: Table, shades: NDArray[np.float64] | None) -> str:
    heads = "".join(f"<th{_kind(table, at)}>{escape(heading)}</th>" for at, heading in enumerate(table.headings))
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_kind(table, at)}{_shade(shades, number, at - table.num_words)}>{escape(cell)}</td>"
            for at, cell in enumerate(row)
        )
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    kind = "" if shades is None else ' class="matrix"'
    return f'<div class="wide"><table{kind}>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def _kind(table: Table, column: int) -> str:
    return ' class="word"' if column < table.num_words else ""


def _shade(shades: NDArray[np.float64] | None, row: int, column: int) -> str:
    """Blue towards 1, orange towards 0, nothing at one half."""
    if shades is None or column < 0 or row == column:
        return ""
    value = float(shades[row, column])
    colour = "31, 111, 235" if value > 0.5 else "209, 105, 42"
    return f' style="background: rgba({colour}, {0.8 * abs(value - 0.5):.2f})"'
