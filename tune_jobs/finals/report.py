"""What the finals report: sections of the sweep's page, CSV files, and what a terminal shows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from handclip_core.data.manifest import Prepared
from handclip_core.runs.run_folder import write_json, write_text
from tune_jobs.finals.differences import differences
from tune_jobs.finals.final_test import MODEL, FinalTest
from tune_jobs.finals.frames import frames
from tune_jobs.finals.mixtures import Kind
from tune_jobs.finals.past_sweep import PastSweep
from tune_jobs.finals.ranking import Cost, Standing, Standings, StrategyVerdict, verdicts
from tune_jobs.finals.tables import (
    costs,
    less,
    mean_sd,
    ranking_table,
    swept_score,
    verdict_table,
    wins_table,
)
from tune_jobs.finals.words import drops, headline, notes, test_lines, unbeaten
from tune_jobs.reporting.charts import intervals
from tune_jobs.reporting.page import REPORT, Figure, Page, Section, Table, hours, span
from tune_jobs.reporting.summary import shown
from tune_jobs.reporting.sweep_sections import how_to_use
from tune_jobs.storage.sync import FINALS

WIDE = 150
"""Characters of a line that holds all columns."""


@dataclass(frozen=True)
class FinalsReport:
    """Everything that the finals of ``past`` have to say; ``failures`` are runs and their reasons.

    ``data`` are those of the sweep, if they are on this machine.
    """

    past: PastSweep
    seeds: tuple[int, ...]
    standings: Standings
    cost: Cost
    failures: Mapping[str, str]
    test: FinalTest | None
    data: Prepared | None = None

    def text(self, *, width: int | None = None) -> str:
        """What a terminal of ``width`` characters shows; a narrow one gets fewer columns."""
        tables = [ranking_table(self.standings), self._verdict]
        if width is not None and width < WIDE:
            tables = [table.without(*less(self.standings.task.metrics), *costs(self.cost)) for table in tables]
        lists = ["\n".join([title, *lines]) for title, lines in self._lists.items()]
        shown = [*(table.text(width=width) for table in tables), *lists, "\n".join(self._headline)]
        return "\n\n".join([*unbeaten(self.standings), *shown])  # first, and again where a terminal ends

    def page(self) -> Page:
        """Their part of the sweep's report; the first of its sections judges the strategies."""
        said = [*drops(self.standings), *(f"failed: {name}: {reason}" for name, reason in self.failures.items())]
        tables = (ranking_table(self.standings), wins_table(self.standings))
        test = test_lines(self.test, self.standings.task) if self.test is not None else []
        own = [
            Section(title="Verdict by strategy", tables=(self._verdict,)),
            Section(title="Finals", lines=tuple(said), tables=tables, figures=(self._intervals(),)),
            *differences(self.standings, self.data),
            *([Section(title="Test", lines=tuple(test))] if test else []),
            Section(title="How to read the finals", lines=self._notes),
            *([self._use(self.test)] if self.test is not None else []),
        ]
        # By its time the sweep's report knows whether the sweep has gone on since.
        return Page(
            title="Finals", verdict=tuple(self._headline), tiles=self._tiles, sections=tuple(own), at=time.time()
        )

    def _use(self, test: FinalTest) -> Section:
        """How the model that was fitted for the look at the test data is used."""
        folder = shown(self.past.where / FINALS / MODEL / test.model)
        return how_to_use(folder, has_galleries=self.standings.task.has_galleries)

    def write(self, folder: Path) -> None:
        """Write ``report.json``, which the sweep's report takes in, and the CSV files."""
        write_json(folder / f"{REPORT}.json", self.page().model_dump(mode="json"))
        for name, frame in frames(self.standings, self._verdicts, self.cost).items():
            write_text(folder / f"{name}.csv", frame.to_csv(index=False))

    @property
    def _tiles(self) -> dict[str, str]:
        winner, best = self.standings.winner, self._verdicts[0]
        return {
            "winner": winner.name,
            f"validation {self.standings.task.metrics.objective.label} ± seeds": f"{mean_sd(winner.score)} %",
            f"95 % over {self.standings.task.clusters}": span(winner.score),
            costs(self.cost)[0]: hours(best.fit_hours),
        }

    @property
    def _notes(self) -> tuple[str, ...]:
        kinds = {row.entrant.recipe.kind for row in self.standings.rows}
        return notes(self.standings.task, fusion=Kind.FUSION in kinds)

    @property
    def _headline(self) -> list[str]:
        heading = costs(self.cost)[0]
        return headline(self.past, self.seeds, self.standings, cost=f"{hours(self._verdicts[0].fit_hours)} {heading}")

    @cached_property
    def _verdicts(self) -> list[StrategyVerdict]:
        return verdicts(self.standings, self.past.searched, self.cost, budget=self.past.settings.budget)

    @property
    def _verdict(self) -> Table:
        return verdict_table(self._verdicts, self.cost, self.standings.task.metrics)

    def _intervals(self) -> Figure:
        """Mean and 95 % over clusters of every row, its seeds, and the sweep's own score."""
        task, rows = self.standings.task, self.standings.with_baselines
        objective = task.metrics.objective
        dots: dict[str, dict[str, list[float]]] = {"seed": {}, "sweep, optimistic": {}}
        for row in rows:
            if isinstance(row, Standing):
                dots["seed"][row.name] = [100 * scores.mean(objective.name) for scores in row.entrant.scores]
            if (swept := swept_score(row)) is not None:
                dots["sweep, optimistic"][row.name] = [100 * swept]
        bars = [(row.name, 100 * row.score.mean, 100 * row.score.low, 100 * row.score.high) for row in rows]
        caption = (
            f"Validation {objective.label}: mean and 95 % over {task.clusters}, its seeds, and the sweep's own score."
        )
        return intervals(caption, bars, dots, f"{objective.label}, %")

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
