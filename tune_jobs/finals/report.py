"""The report of the finals: Markdown, CSV, a page, and what a terminal shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from handclip_core.runs.run_folder import write_text
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.frames import frames
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.plot import IntervalsPlot
from tune_jobs.finals.ranking import Cost, Standings, StrategyVerdict, verdicts
from tune_jobs.finals.tables import Table, costs, less, plain, ranking_table, verdict_table, wins_table
from tune_jobs.finals.words import drops, headline, notes, test_lines, unbeaten

TEMPLATE = Path(__file__).with_name("report.html.j2")
WIDE = 150
"""Characters of a line that holds all columns."""


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
        tables = [self._ranking, self._verdict]
        if width is not None and width < WIDE:
            tables = [table.without(*less(self.standings.task.metrics), *costs(self.cost)) for table in tables]
        lists = ["\n".join([title, *lines]) for title, lines in self._lists.items()]
        shown = [*(table.text(width=width) for table in tables), *lists, "\n".join(self._headline)]
        return "\n\n".join([*unbeaten(self.standings), *shown])  # first, and again where a terminal ends

    def markdown(self) -> str:
        """The report in Markdown."""
        parts = [f"# {self._title}", "", *(f"{line}\n" for line in self._headline)]
        for title, lines in self._lists.items():
            parts += [f"## {title}", "", *(f"- {plain(line)}" for line in lines), ""]
        parts += [table.markdown() for table in (self._verdict, self._ranking, wins_table(self.standings))]
        return "\n".join([*parts, "## How to read this", "", *(f"- {line}" for line in self._notes), ""])

    def html(self) -> str:
        """The report as a page that needs no other file: no script, nothing fetched, every text escaped."""
        loader = FileSystemLoader(TEMPLATE.parent)
        options = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        return options.get_template(TEMPLATE.name).render(
            title=self._title,
            headline=self._headline,
            lists=self._lists,
            verdict=self._verdict,
            plot=IntervalsPlot(self.standings.with_baselines, self.standings.task),
            ranking=self._ranking,
            wins=wins_table(self.standings),
            notes=self._notes,
        )

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``report.html`` and the CSV files."""
        write_text(folder / "report.md", self.markdown())
        write_text(folder / "report.html", self.html())
        for name, frame in frames(self.standings, self._verdicts, self.cost).items():
            write_text(folder / f"{name}.csv", frame.to_csv(index=False))

    @property
    def _title(self) -> str:
        return f"Finals of {self.past.name}"

    @property
    def _notes(self) -> tuple[str, ...]:
        return notes(self.standings.task)

    @property
    def _headline(self) -> list[str]:
        return headline(self.past, self.seeds, self.standings)

    @property
    def _ranking(self) -> Table:
        return ranking_table(self.standings)

    @cached_property
    def _verdicts(self) -> list[StrategyVerdict]:
        return verdicts(self.standings, self.past.searched, self.cost, budget=self.past.settings.budget)

    @property
    def _verdict(self) -> Table:
        return verdict_table(self._verdicts, self.cost, self.standings.task.metrics)

    @property
    def _lists(self) -> dict[str, Sequence[str]]:
        """Lists of sentences by their title, those that have any."""
        lists: dict[str, Sequence[str]] = {
            f"The sealed test {self.standings.task.clusters}": []
            if self.test is None
            else test_lines(self.test, self.standings.task),
            "Past their best": drops(self.standings),
            "Early stopping in the sweep": self.past.stopping,
            "Failed": [f"{name}: {reason}" for name, reason in self.failures.items()],
        }
        return {title: lines for title, lines in lists.items() if lines}
