"""The finals' tables for people, and how figures are written in them: percentages, as texts."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan

import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from handclip_core.evaluation.bootstrap import Comparison, Estimate
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.seeds import SeedEstimate
from tune_jobs.finals.ranking import BaselineStanding, Cost, Standing, Standings, StrategyVerdict

NONE = "–"
LOG_WIDTH = 160
"""Characters a line if nobody's terminal sets a limit."""


def score_heading(metrics: Metrics) -> str:
    """Heading of the objective."""
    return f"{metrics.objective.label} ± seeds"


def less(metrics: Metrics) -> tuple[str, ...]:
    """Columns that a narrow terminal does without, as without those of ``costs``."""
    return ("why", "place", "units", *(metric.label for metric in metrics.in_finals), "95 %", "P(beats zero-shot)")


@dataclass(frozen=True)
class Table:
    """A titled table of texts; its first ``num_words`` columns hold words, the others figures.

    ``colours`` has the backgrounds of cells by row and column, in CSS.
    """

    title: str
    data: pd.DataFrame
    num_words: int = 1
    colours: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def headings(self) -> list[str]:
        """Those of its columns."""
        return list(self.data.columns)

    @property
    def rows(self) -> list[list[str]]:
        """The texts of each row."""
        found: list[list[str]] = self.data.to_numpy().tolist()
        return found

    def without(self, *headings: str) -> "Table":
        """The table without some of its columns."""
        words = sum(heading not in headings for heading in self.headings[: self.num_words])
        return replace(self, data=self.data.drop(columns=list(headings), errors="ignore"), num_words=words)

    def markdown(self) -> str:
        """The table in Markdown, under its title as a heading."""
        rules = ["---" if at < self.num_words else "---:" for at in range(len(self.headings))]
        lines = [self.headings, rules, *([plain(cell) for cell in row] for row in self.rows)]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def text(self, *, width: int | None = None) -> str:
        """The table for a terminal of ``width`` characters."""
        table = RichTable(header_style="", box=None, pad_edge=False)
        for position, heading in enumerate(self.headings):
            words = position < self.num_words
            # Figures stay on one line; what is too long for the line wraps in headings and words.
            whole = max(map(len, [*heading.split(), *(row[position] for row in self.rows)]))
            table.add_column(heading, justify="left" if words else "right", width=None if words else whole)
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        buffer = io.StringIO()
        Console(file=buffer, width=width or LOG_WIDTH).print(table)
        return "\n".join([self.title, *(line.rstrip() for line in buffer.getvalue().splitlines())])


def ranking_table(standings: Standings) -> Table:
    """Every entrant and baseline, best first; baselines have no place."""
    rows, metrics = standings.with_baselines, standings.task.metrics
    places = {id(row): str(place) for place, row in enumerate(standings.rows, start=1)}
    swept = [swept_score(row) for row in rows]
    columns = {
        "finalist": [row.name for row in rows],
        "why": [_why(row) for row in rows],
        "place": [places.get(id(row), NONE) for row in rows],
        score_heading(metrics): [mean_sd(row.score) for row in rows],
        "95 %": [span(row.score) for row in rows],
        **{metric.label: [percent(row.others[metric.name]) for row in rows] for metric in metrics.in_finals[1:]},
        **_gaps("first", [row.gap for row in rows]),
        "P(beats zero-shot)": [NONE if row.beats_zero_shot is None else f"{row.beats_zero_shot:.3f}" for row in rows],
        "in the sweep, optimistic": [NONE if score is None else percent(score) for score in swept],
    }
    return Table("Finalists", pd.DataFrame(columns), num_words=2)


def swept_score(row: Standing | BaselineStanding) -> float | None:
    """The sweep's score of a configuration that it tried, else None."""
    return row.entrant.recipe.members[0].swept_score if isinstance(row, Standing) and row.entrant.single else None


def _why(row: Standing | BaselineStanding) -> str:
    if isinstance(row, BaselineStanding):
        return "baseline"
    return ", ".join(row.entrant.recipe.members[0].roles) if row.entrant.single else "mixture"


def verdict_table(verdicts: Sequence[StrategyVerdict], cost: Cost, metrics: Metrics) -> Table:
    """Every strategy at its best, against the winner."""
    fit, search, weights, speed = costs(cost)
    columns = {
        "strategy": [one.strategy for one in verdicts],
        "its best": [one.best.partition(", ")[2] for one in verdicts],
        "verdict": [str(one.verdict) for one in verdicts],
        "trials": [str(one.searched.trials) for one in verdicts],
        "units": [str(one.searched.units) for one in verdicts],
        score_heading(metrics): [mean_sd(one.score) for one in verdicts],
        "95 %": [span(one.score) for one in verdicts],
        **_gaps("winner", [one.gap for one in verdicts]),
        fit: [hours(one.fit_hours) for one in verdicts],
        search: [hours(one.search_hours) for one in verdicts],
        weights: [f"{one.params_trained:,}" for one in verdicts],
        speed: [NONE if one.images_s is None or isnan(one.images_s) else f"{one.images_s:,.0f}" for one in verdicts],
    }
    return Table("Verdict by strategy", pd.DataFrame(columns), num_words=3)


def costs(cost: Cost) -> tuple[str, str, str, str]:
    """Headings of what a strategy costs: hours of GPUs by the clock, of CPUs as processors count them."""
    if cost.on_gpus:
        return ("GPU-hours a fit", "GPU-hours of search", "weights trained", "images/s")
    return ("CPU-hours a fit", "core-hours of search", "weights trained", "images a CPU-second")


def wins_table(standings: Standings) -> Table:
    """P(row beats column), by place: blue towards 1, orange towards 0, nothing at one half."""
    wins: list[list[float]] = standings.wins.tolist()
    data = pd.DataFrame([[NONE if at == by else f"{p:.2f}" for by, p in enumerate(row)] for at, row in enumerate(wins)])
    data.columns = pd.Index([str(place + 1) for place in range(len(wins))])
    data.insert(0, "finalist", [f"{place}. {row.entrant.name}" for place, row in enumerate(standings.rows, start=1)])
    cells = {(at, by): p for at, row in enumerate(wins) for by, p in enumerate(row) if at != by}
    colours = {
        (at, by + 1): f"rgba({'31, 111, 235' if p > 0.5 else '209, 105, 42'}, {0.8 * abs(p - 0.5):.2f})"
        for (at, by), p in cells.items()
    }
    return Table("P(row beats column)", data, colours=colours)


def _gaps(to: str, gaps: Sequence[Comparison | None]) -> dict[str, list[str]]:
    differences = [NONE if gap is None else signed(gap.difference) for gap in gaps]
    return {f"to the {to}": differences, "95 % of that": [NONE if gap is None else span(gap) for gap in gaps]}


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of fractions in percent, with its sign."""
    return f"{100 * value:+.2f}"


def span(found: Estimate | Comparison | SeedEstimate) -> str:
    """The ends of an interval in percent."""
    return f"{percent(found.low)} to {percent(found.high)}"


def mean_sd(found: SeedEstimate) -> str:
    """Mean and spread over seeds in percent."""
    return percent(found.mean) if found.sd is None else f"{percent(found.mean)} ± {100 * found.sd:.2f}"


def hours(value: float) -> str:
    """Hours, with as many digits as matter; a dash if they were not measured."""
    if isnan(value):
        return NONE
    return f"{value:.2f}" if value >= 0.01 or value == 0 else "< 0.01"


def plain(cell: str) -> str:
    """A text that can neither end a column of a Markdown table nor its line, nor start markup."""
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
