"""Tables of texts that a terminal, Markdown and a page can show, and how figures are written in them."""

import io
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from handclip_core.evaluation.bootstrap import Comparison, Estimate
from handclip_core.evaluation.seeds import SeedEstimate

Interval = Estimate | Comparison | SeedEstimate
NONE = "–"

LOG_WIDTH = 160
"""Characters a line where nobody's terminal sets a limit."""


@dataclass(frozen=True)
class Table:
    """A titled table; its first ``num_words`` columns hold words, the others figures."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_words: int = 1

    def markdown(self) -> str:
        """The table in Markdown, under its title as a heading."""
        lines = [
            self.headings,
            tuple("---" if position < self.num_words else "---:" for position in range(len(self.headings))),
            *(tuple(plain(cell) for cell in row) for row in self.rows),
        ]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def without(self, *headings: str) -> "Table":
        """The table without some of its columns."""
        kept = [at for at, heading in enumerate(self.headings) if heading not in headings]
        return Table(
            self.title,
            tuple(self.headings[at] for at in kept),
            tuple(tuple(row[at] for at in kept) for row in self.rows),
            sum(at < self.num_words for at in kept),
        )

    def text(self, *, width: int | None = None) -> str:
        """The table for a terminal of ``width`` characters."""
        table = RichTable(header_style="", box=None, pad_edge=False)
        for position, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if position < self.num_words else "right")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        buffer = io.StringIO()
        Console(file=buffer, width=width or LOG_WIDTH).print(table)
        return "\n".join([self.title, *(line.rstrip() for line in buffer.getvalue().splitlines())])


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of fractions in percent, with its sign."""
    return f"{100 * value:+.2f}"


def span(found: Interval) -> str:
    """The ends of an interval in percent."""
    return f"{percent(found.low)} to {percent(found.high)}"


def mean_sd(found: SeedEstimate) -> str:
    """Mean and spread over seeds in percent."""
    return percent(found.mean) if found.sd is None else f"{percent(found.mean)} ± {100 * found.sd:.2f}"


def hours(value: float) -> str:
    """Hours, with as many digits as matter."""
    return f"{value:.2f}" if value >= 0.01 or value == 0 else "< 0.01"


def plain(cell: str) -> str:
    """A text that can neither end a column of a Markdown table nor its line, nor start markup."""
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
