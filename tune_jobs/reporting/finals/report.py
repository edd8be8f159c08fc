"""The report of the finals: Markdown, CSV, a page, and what a terminal shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handclip_core.runs.run_folder import write_text
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import Cost, Standings, verdicts
from tune_jobs.reporting.finals.csv_files import finalists_csv, verdict_csv, wins_csv
from tune_jobs.reporting.finals.page import Section, page
from tune_jobs.reporting.finals.plots import intervals_plot
from tune_jobs.reporting.finals.rows import costs, ranking_table, verdict_table, wins_table
from tune_jobs.reporting.finals.tables import Table, plain
from tune_jobs.reporting.finals.words import NOTES, drops, headline, test_lines

WIDE = 150
"""Characters of a line that holds all columns."""
LESS = ("why", "place", "R1", "95 %", "P(beats zero-shot)")
"""Columns that a narrow terminal does without."""


@dataclass(frozen=True)
class FinalsReport:
    """Everything that the finals of ``past`` have to say; ``failures`` are runs and their reasons."""

    past: PastSweep
    seeds: tuple[int, ...]
    standings: Standings
    cost: Cost
    failures: Mapping[str, str]
    test: FinalTest | None

    def text(self, *, width: int | None = None) -> str:
        """What a terminal of ``width`` characters shows; a narrow one gets fewer columns."""
        ranking, verdict = self._ranking, self._verdict
        if width is not None and width < WIDE:
            ranking, verdict = ranking.without(*LESS), verdict.without(*LESS, *costs(self.cost.unit))
        parts = [
            *(table.text(width=width) for table in (ranking, verdict)),
            *("\n".join([title, *lines]) for title, lines in self._lists().items()),
            "\n".join(self._headline),
        ]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """The report in Markdown."""
        parts = [f"# {self._title}", "", *(f"{line}\n" for line in self._headline)]
        for title, lines in self._lists().items():
            parts += [f"## {title}", "", *(f"- {plain(line)}" for line in lines), ""]
        parts += [table.markdown() for table in (self._verdict, self._ranking, wins_table(self.standings))]
        return "\n".join([*parts, "## How to read this", "", *(f"- {line}" for line in NOTES), ""])

    def html(self) -> str:
        """The report as a page that needs no other file."""
        wins = wins_table(self.standings)
        sections = [
            *(Section(title, lines=tuple(lines)) for title, lines in self._lists().items()),
            Section(self._verdict.title, table=self._verdict),
            Section("Intervals", picture=intervals_plot(self.standings)),
            Section(self._ranking.title, table=self._ranking),
            Section(wins.title, table=wins, shades=self.standings.wins),
            Section("How to read this", lines=NOTES),
        ]
        return page(self._title, self._headline, sections)

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``report.html`` and the CSV files."""
        write_text(folder / "report.md", self.markdown())
        write_text(folder / "report.html", self.html())
        write_text(folder / "finalists.csv", finalists_csv(self.standings))
        write_text(folder / "verdict.csv", verdict_csv(verdicts(self.standings, self.past.seconds, self.cost)))
        write_text(folder / "p_beats.csv", wins_csv(self.standings))

    @property
    def _title(self) -> str:
        return f"Finals of {self.past.name}"

    @property
    def _headline(self) -> list[str]:
        return headline(self.past, self.seeds, self.standings)

    @property
    def _ranking(self) -> Table:
        return ranking_table(self.standings)

    @property
    def _verdict(self) -> Table:
        return verdict_table(verdicts(self.standings, self.past.seconds, self.cost), self.cost.unit)

    def _lists(self) -> dict[str, Sequence[str]]:
        """Lists of sentences by their title, those that have any."""
        lists: dict[str, Sequence[str]] = {
            "The sealed test people": [] if self.test is None else test_lines(self.test),
            "Past their best": drops(self.standings),
            "Early stopping in the sweep": self.past.stopping,
            "Failed": [f"{name}: {reason}" for name, reason in self.failures.items()],
        }
        return {title: lines for title, lines in lists.items() if lines}
