"""Where the parts of the image of intervals lie; the page's template draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from handclip_core.tasks import AnyTask
from tune_jobs.finals.ranking import BaselineStanding, Standing
from tune_jobs.finals.tables import swept_score

STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Distances of grid lines; the smallest with at most MOST_LINES of them is taken."""
MOST_LINES = 10


@dataclass(frozen=True)
class IntervalsPlot:
    """Mean and 95 % over clusters of every row as a bar, each seed as a dot, the sweep's own score as a ring."""

    rows: Sequence[Standing | BaselineStanding]
    task: AnyTask
    row_px, left_px, width_px, top_px = 24, 300, 900, 26

    @property
    def label(self) -> str:
        """What the image shows."""
        label, clusters = self.task.metrics.objective.label, self.task.clusters
        return (
            f"Validation {label} in percent: mean and 95 % over {clusters}, seeds as dots, "
            "the sweep's optimistic score as a ring"
        )

    def seeds(self, row: Standing | BaselineStanding) -> list[float]:
        """The score on each seed; of a baseline, which has none, nothing."""
        name = self.task.metrics.objective.name
        return [scores.mean(name) for scores in row.entrant.scores] if isinstance(row, Standing) else []

    def swept(self, row: Standing | BaselineStanding) -> list[float]:
        """The sweep's score of a configuration that it tried."""
        swept = swept_score(row)
        return [] if swept is None else [swept]

    def x(self, value: float) -> float:
        """Where a score lies, in pixels."""
        low, high = self._ends
        return round(self.left_px + (value - low) / (high - low) * (self.width_px - self.left_px - 12), 1)

    @property
    def grid(self) -> list[float]:
        """The scores of the vertical lines."""
        low, high = self._ends
        step = next((one for one in STEPS if (high - low) / one <= MOST_LINES), STEPS[-1])
        return [round(number * step, 6) for number in range(int(low / step) + 1, int(high / step) + 1)]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        spans = [(row.score.low, row.score.high, *self.seeds(row), *self.swept(row)) for row in self.rows]
        low, high = min(map(min, spans)), max(map(max, spans))
        margin = max(0.005, 0.04 * (high - low))
        return low - margin, high + margin
