"""The finals' tables for people, and how figures are written in them: percentages, as texts."""

from collections.abc import Sequence
from math import isnan

from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.metrics import Metrics
from handclip_core.evaluation.seeds import SeedEstimate
from tune_jobs.finals.ranking import BaselineStanding, Cost, Standing, Standings, StrategyVerdict
from tune_jobs.reporting.page import NONE, Table, hours, percent, signed, span


def score_heading(metrics: Metrics) -> str:
    """Heading of the objective."""
    return f"{metrics.objective.label} ± seeds"


def less(metrics: Metrics) -> tuple[str, ...]:
    """Columns that a narrow terminal does without, as without those of ``costs``."""
    return ("why", "place", "units", *(metric.label for metric in metrics.in_finals), "95 %", "P(beats zero-shot)")


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
    return Table.of("Finalists", columns, num_words=2)


def swept_score(row: Standing | BaselineStanding) -> float | None:
    """The sweep's score of a configuration that it tried, else None."""
    return row.entrant.recipe.members[0].swept_score if isinstance(row, Standing) and row.entrant.single else None


def _why(row: Standing | BaselineStanding) -> str:
    if isinstance(row, BaselineStanding):
        return "baseline"
    return ", ".join(row.entrant.recipe.members[0].roles) if row.entrant.single else row.entrant.recipe.kind


def verdict_table(verdicts: Sequence[StrategyVerdict], cost: Cost, metrics: Metrics) -> Table:
    """Every strategy at its best on every backbone, against the winner."""
    several = any(one.backbone for one in verdicts)
    fit, search, weights, speed = costs(cost)
    columns = {
        "strategy": [one.strategy for one in verdicts],
        **({"backbone": [one.backbone for one in verdicts]} if several else {}),
        "its best": [one.best.name.partition(", ")[2] for one in verdicts],
        "verdict": [str(one.verdict) for one in verdicts],
        "trials": [str(one.searched.trials) for one in verdicts],
        "units": [str(one.searched.units) for one in verdicts],
        score_heading(metrics): [mean_sd(one.best.score) for one in verdicts],
        "95 %": [span(one.best.score) for one in verdicts],
        **_gaps("winner", [one.best.gap for one in verdicts]),
        fit: [hours(one.fit_hours) for one in verdicts],
        search: [hours(one.search_hours) for one in verdicts],
        weights: [f"{one.params_trained:,}" for one in verdicts],
        speed: [NONE if one.images_s is None or isnan(one.images_s) else f"{one.images_s:,.0f}" for one in verdicts],
    }
    return Table.of("Strategies in the finals", columns, num_words=3 + several)


def costs(cost: Cost) -> tuple[str, str, str, str]:
    """Headings of what a strategy costs: hours of GPUs by the clock, of CPUs as processors count them."""
    if cost.on_gpus:
        return ("GPU-hours a fit", "GPU-hours of search", "weights trained", "images/s")
    return ("CPU-hours a fit", "core-hours of search", "weights trained", "images a CPU-second")


def wins_table(standings: Standings) -> Table:
    """P(row beats column), by place: blue towards 1, orange towards 0, nothing at one half."""
    wins: list[list[float]] = standings.wins.tolist()
    rows = [
        (
            f"{place + 1}. {standings.rows[place].name}",
            *(NONE if place == by else f"{p:.2f}" for by, p in enumerate(row)),
        )
        for place, row in enumerate(wins)
    ]
    shades = {f"{at},{by + 1}": 2 * p - 1 for at, row in enumerate(wins) for by, p in enumerate(row) if at != by}
    headings = ("finalist", *(str(place + 1) for place in range(len(wins))))
    return Table(title="P(row beats column)", headings=headings, rows=tuple(rows), shades=shades)


def _gaps(to: str, gaps: Sequence[Comparison | None]) -> dict[str, list[str]]:
    differences = [NONE if gap is None else signed(gap.difference) for gap in gaps]
    return {f"to the {to}": differences, "95 % of that": [NONE if gap is None else span(gap) for gap in gaps]}


def mean_sd(found: SeedEstimate) -> str:
    """Mean and spread over seeds in percent."""
    return percent(found.mean) if found.sd is None else f"{percent(found.mean)} ± {100 * found.sd:.2f}"
