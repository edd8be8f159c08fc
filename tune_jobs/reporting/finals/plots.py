"""Intervals as an inline SVG picture."""

from html import escape

from handclip_core.evaluation.seeds import SeedEstimate
from tune_jobs.finals.ranking import Standing, Standings
from tune_jobs.reporting.finals.tables import percent

ROW_PX, LABEL_PX, WIDTH_PX, TOP_PX = 24, 300, 900, 26
STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Distances of grid lines; the smallest with at most MOST_LINES of them is taken."""
MOST_LINES = 10


def intervals_plot(standings: Standings) -> str:
    """Every entrant's mean and 95 % over people as a bar, each seed as a dot, the sweep's own score as a ring."""
    rows = standings.rows
    seen = [value for row in rows for value in (row.map.low, row.map.high, *_seeds(row), *_swept(row))]
    scale = _Scale(min(seen), max(seen))
    height = TOP_PX + ROW_PX * len(rows) + 4
    lines = [scale.grid(height), *(_row(row, scale, TOP_PX + ROW_PX * place) for place, row in enumerate(rows))]
    label = (
        "Validation mAP in percent: mean and 95 % over people, seeds as dots, the sweep's optimistic score as a ring"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH_PX} {height}" role="img" aria-label="{escape(label)}">{"".join(lines)}</svg>'
        f"<p>{escape(label)}.</p>"
    )


class _Scale:
    """From mAP to pixels."""

    def __init__(self, low: float, high: float) -> None:
        margin = max(0.005, 0.04 * (high - low))
        self._low, self._high = low - margin, high + margin

    def x(self, value: float) -> str:
        """Where ``value`` lies, in pixels."""
        share = (value - self._low) / (self._high - self._low)
        return f"{LABEL_PX + share * (WIDTH_PX - LABEL_PX - 12):.1f}"

    def grid(self, height: int) -> str:
        """Vertical lines with their values."""
        step = next((one for one in STEPS if (self._high - self._low) / one <= MOST_LINES), STEPS[-1])
        first, last = int(self._low / step) + 1, int(self._high / step)
        marks = (number * step for number in range(first, last + 1))
        return "".join(
            f'<line class="grid" x1="{self.x(mark)}" x2="{self.x(mark)}" y1="16" y2="{height}"/>'
            f'<text class="mark" x="{self.x(mark)}" y="11">{100 * mark:g}</text>'
            for mark in (round(mark, 6) for mark in marks)
        )


def _row(row: Standing, scale: _Scale, top: int) -> str:
    middle = top + ROW_PX // 2
    found: SeedEstimate = row.map
    mean = scale.x(found.mean)
    parts = [
        f"<g><title>{escape(row.entrant.name)}: {percent(found.mean)}</title>",
        f'<text x="{LABEL_PX - 10}" y="{middle + 4}" class="name">{escape(row.entrant.name)}</text>',
        f'<line class="bar" x1="{scale.x(found.low)}" x2="{scale.x(found.high)}" y1="{middle}" y2="{middle}"/>',
        *(f'<circle class="seed" cx="{scale.x(value)}" cy="{middle}" r="3"/>' for value in _seeds(row)),
        *(f'<circle class="swept" cx="{scale.x(value)}" cy="{middle}" r="5"/>' for value in _swept(row)),
        f'<line class="mean" x1="{mean}" x2="{mean}" y1="{middle - 8}" y2="{middle + 8}"/>',
    ]
    return "".join([*parts, "</g>"])


def _seeds(row: Standing) -> list[float]:
    return [scores.overall.map.mean for scores in row.entrant.scores]


def _swept(row: Standing) -> list[float]:
    """The sweep's score of a configuration that it tried."""
    swept = row.entrant.recipe.members[0].swept_score if row.entrant.single else None
    return [] if swept is None else [swept]
