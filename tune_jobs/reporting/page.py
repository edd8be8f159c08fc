"""The report as data, sections of sentences, tables and figures, and as HTML, Markdown and JSON."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs
from pydantic import Field
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from handclip_core.config import Config
from handclip_core.evaluation.bootstrap import Comparison, Estimate
from handclip_core.evaluation.seeds import SeedEstimate
from handclip_core.runs.run_folder import write_json, write_text

TEMPLATE = Path(__file__).with_name("page.html.j2")
NONE = "–"
LOG_WIDTH = 160
"""Characters a line if nobody's terminal sets a limit."""
REPORT = "report"
"""Name of the files of a report, which differ in their endings."""


class Link(Config):
    """A cell that leads to a file beside the report."""

    text: str
    """What is shown."""
    href: str
    """The file, relative to the report."""

    def __str__(self) -> str:
        return self.text


class Table(Config):
    """A titled table of texts; its first ``num_words`` columns hold words, the others figures."""

    title: str
    """Its heading."""
    headings: tuple[str, ...]
    """Those of its columns."""
    rows: tuple[tuple[str | Link, ...], ...]
    """The cells of each row."""
    num_words: int = 1
    """Columns of words, which stand first."""
    shades: dict[str, float] = Field(default_factory=dict)
    """Cells with a background, by ``row,column``: from -1, orange, over 0, none, to 1, blue."""
    filters: tuple[str, ...] = ()
    """Columns by which the page lets its reader choose rows."""

    @classmethod
    def of(cls, title: str, columns: Mapping[str, Sequence[str | Link]], **more: Any) -> "Table":
        """A table of ``columns`` by heading."""
        rows = tuple(zip(*columns.values(), strict=True))
        return cls(title=title, headings=tuple(columns), rows=rows, **more)

    def without(self, *headings: str) -> "Table":
        """The table without some of its columns."""
        kept = [at for at, heading in enumerate(self.headings) if heading not in headings]
        return self.model_copy(
            update={
                "headings": tuple(self.headings[at] for at in kept),
                "rows": tuple(tuple(row[at] for at in kept) for row in self.rows),
                "num_words": sum(at < self.num_words for at in kept),
            }
        )

    def markdown(self) -> str:
        """The table in Markdown, under its title as a heading."""
        rules = ["---" if at < self.num_words else "---:" for at in range(len(self.headings))]
        lines = [
            [plain(name) for name in self.headings],
            rules,
            *([plain(str(cell)) for cell in row] for row in self.rows),
        ]
        return "\n".join([f"### {plain(self.title)}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def text(self, *, width: int | None = None) -> str:
        """The table for a terminal of ``width`` characters."""
        table = RichTable(header_style="", box=None, pad_edge=False)
        for position, heading in enumerate(self.headings):
            words = position < self.num_words
            # Figures stay on one line; what is too long for the line wraps in headings and words.
            whole = max(map(len, [*heading.split(), *(str(row[position]) for row in self.rows)]))
            table.add_column(heading, justify="left" if words else "right", width=None if words else whole)
        for row in self.rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        buffer = io.StringIO()
        Console(file=buffer, width=width or LOG_WIDTH).print(table)
        return "\n".join([self.title, *(line.rstrip() for line in buffer.getvalue().splitlines())])


class Figure(Config):
    """A figure of plotly."""

    caption: str
    """What it shows, in a sentence."""
    data: tuple[dict[str, Any], ...]
    """Plotly's traces."""
    layout: dict[str, Any] = Field(default_factory=dict)
    """Plotly's layout; colours of text, grid and ground are the page's."""


class Image(Config):
    """A small image with a line below, or words alone."""

    source: str
    """A ``data:`` URI; empty for words alone."""
    caption: str = ""
    """The line, or the words."""
    mark: str = ""
    """``right``, ``wrong`` or nothing: the colour and the sign of its frame."""


class Strip(Config):
    """Images side by side under a sentence."""

    caption: str
    """The sentence."""
    images: tuple[Image, ...]
    """From left to right."""


class Section(Config):
    """A part of the report. One without data says in ``missing`` what to run."""

    title: str
    """Its heading."""
    lines: tuple[str, ...] = ()
    """Sentences."""
    code: str = ""
    """Commands or Python to copy."""
    tables: tuple[Table, ...] = ()
    """Tables."""
    figures: tuple[Figure, ...] = ()
    """Figures."""
    strips: tuple[Strip, ...] = ()
    """Rows of images."""
    missing: str = ""
    """Why there are no data, and what to run for them."""

    @property
    def anchor(self) -> str:
        """What links to it end with."""
        return "-".join(self.title.lower().split())

    def markdown(self) -> str:
        """The section in Markdown, figures by their captions."""
        parts = [f"## {plain(self.title)}", "", *([plain(self.missing), ""] if self.missing else [])]
        parts += [*(f"- {plain(line)}" for line in self.lines), ""] if self.lines else []
        parts += ["```", self.code, "```", ""] if self.code else []
        parts += [table.markdown() for table in self.tables]
        captions = [*(figure.caption for figure in self.figures), *(strip.caption for strip in self.strips)]
        parts += [f"*On the page: {plain(caption)}*\n" for caption in captions]
        return "\n".join(parts)


class Page(Config):
    """A whole report."""

    title: str
    """Its heading."""
    verdict: tuple[str, ...]
    """Which, how sure, at what cost: the first sentences."""
    tiles: dict[str, str]
    """The figures of the verdict by what they are."""
    sections: tuple[Section, ...]
    """The rest, in order."""
    at: float = 0.0
    """When it was made, in seconds since 1970."""

    def html(self) -> str:
        """The page, which needs no other file: nothing is fetched, every text is escaped."""
        options = Environment(
            loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        return options.get_template(TEMPLATE.name).render(page=self, plotly=_plotly())

    def markdown(self) -> str:
        """The page in Markdown."""
        head = [f"# {plain(self.title)}", "", *(f"{plain(line)}\n" for line in self.verdict)]
        head += [*(f"- {plain(name)}: {plain(value)}" for name, value in self.tiles.items()), ""]
        return "\n".join([*head, *(section.markdown() for section in self.sections)])

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.html``, ``report.md`` and ``report.json`` into ``folder``; readers see old files or new."""
        files = [folder / f"{REPORT}.{ending}" for ending in ("html", "md", "json")]
        write_text(files[0], self.html())
        write_text(files[1], self.markdown())
        write_json(files[2], self.model_dump(mode="json"))
        return files


@cache
def _plotly() -> str:
    # Such a text would end the element of the page that holds it.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def plain(cell: str) -> str:
    """A text that can neither end a column of a Markdown table nor its line, nor start markup."""
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def percent(value: float) -> str:
    """A fraction in percent; a dash if it was not measured."""
    return NONE if value != value else f"{100 * value:.2f}"


def hours(value: float) -> str:
    """Hours, with as many digits as matter; a dash if they were not measured."""
    if value != value:
        return NONE
    return f"{value:.2f}" if value >= 0.01 or value == 0 else "< 0.01"


def signed(value: float) -> str:
    """A difference of fractions in percent, with its sign."""
    return f"{100 * value:+.2f}"


def span(found: Estimate | Comparison | SeedEstimate) -> str:
    """The ends of an interval in percent."""
    return f"{percent(found.low)} to {percent(found.high)}"
