"""The finals' tables for people: ranking, verdict by strategy, who beats whom. Figures are percentages."""

from collections.abc import Sequence

from tune_jobs.finals.ranking import Standings, StrategyVerdict
from tune_jobs.reporting.finals.tables import NONE, Table, hours, mean_sd, percent, signed, span


def ranking_table(standings: Standings) -> Table:
    """Every entrant, best first."""
    rows = []
    for place, row in enumerate(standings.rows, start=1):
        single = row.entrant.recipe.members[0] if row.entrant.single else None
        gap = (signed(row.gap.difference), span(row.gap)) if row.gap else (NONE, NONE)
        swept = NONE if single is None or single.swept_score is None else percent(single.swept_score)
        rows.append(
            (
                row.entrant.name,
                ", ".join(single.roles) if single else "mixture",
                str(place),
                mean_sd(row.map),
                span(row.map),
                percent(row.cmc1),
                *gap,
                NONE if row.beats_baseline is None else f"{row.beats_baseline:.3f}",
                swept,
            )
        )
    headings = ("finalist", "why", "place", "mAP ± seeds", "95 %", "R1", "to the first", "95 % of that")
    return Table("Finalists", (*headings, "P(beats zero-shot)", "in the sweep, optimistic"), tuple(rows), num_words=2)


def verdict_table(verdicts: Sequence[StrategyVerdict], unit: str) -> Table:
    """Every strategy at its best, against the winner."""
    headings = ("strategy", "its best", "verdict", "mAP ± seeds", "95 %", "to the winner", "95 % of that")
    rows = [
        (
            one.strategy,
            one.best.partition(", ")[2],
            str(one.verdict),
            mean_sd(one.map),
            span(one.map),
            *((signed(one.gap.difference), span(one.gap)) if one.gap else (NONE, NONE)),
            hours(one.fit_hours),
            hours(one.search_hours),
            f"{one.params_trained:,}",
            NONE if one.images_s is None else f"{one.images_s:,.0f}",
        )
        for one in verdicts
    ]
    return Table("Verdict by strategy", (*headings, *costs(unit)), tuple(rows), num_words=3)


def costs(unit: str) -> tuple[str, ...]:
    """Headings of what a strategy costs, in GPU-hours or CPU-hours."""
    return (f"{unit} a fit", f"{unit} of search", "weights trained", "images/s")


def wins_table(standings: Standings) -> Table:
    """P(row beats column), by place."""
    places = tuple(str(place) for place in range(1, len(standings.rows) + 1))
    rows = tuple(
        (f"{place}. {row.entrant.name}", *(NONE if column == at else f"{p:.2f}" for column, p in enumerate(wins)))
        for at, (place, row, wins) in enumerate(zip(places, standings.rows, standings.wins, strict=True))
    )
    return Table("P(row beats column)", ("finalist", *places), rows)
