"""The finals as CSV, for programs: fractions, one file a table."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.seeds import SeedEstimate
from tune_jobs.finals.ranking import Standing, Standings, StrategyVerdict

Cell = str | int | float | None
Row = dict[str, Cell]


def finalists_csv(standings: Standings) -> str:
    """A row an entrant, best first; what only a trained configuration has is blank for mixtures."""
    return _text([_entrant(place, row) for place, row in enumerate(standings.rows, start=1)])


def verdict_csv(verdicts: Sequence[StrategyVerdict]) -> str:
    """A row a strategy."""
    rows: list[Row] = []
    for one in verdicts:
        costs: Row = {
            "fit_hours": one.fit_hours,
            "search_hours": one.search_hours,
            "params_trained": one.params_trained,
            "images_s": one.images_s,
        }
        about: Row = {"strategy": one.strategy, "best": one.best, "verdict": str(one.verdict)}
        rows.append({**about, **_map(one.map), **_gap(one.gap), **costs})
    return _text(rows)


def wins_csv(standings: Standings) -> str:
    """P(row beats column)."""
    names = [row.entrant.name for row in standings.rows]
    rows: list[Row] = [
        {"finalist": name, **{other: float(p) for other, p in zip(names, wins, strict=True)}}
        for name, wins in zip(names, standings.wins, strict=True)
    ]
    return _text(rows)


def _entrant(place: int, row: Standing) -> Row:
    member, single = row.entrant.recipe.members[0], row.entrant.single
    about: Row = {
        "place": place,
        "finalist": row.entrant.name,
        "strategy": member.strategy,
        "kind": "trained" if single else "mixture",
        "trial": member.trial if single else None,
    }
    rest: Row = {
        "p_beats_first": row.gap.probability if row.gap else None,
        "p_beats_zero_shot": row.beats_baseline,
        "swept_map": member.swept_score if single else None,
        "peak_map": float(np.mean([one.peak for one in row.entrant.facts[0]])) if single else None,
        "peak_unit": float(np.mean([one.peak_unit for one in row.entrant.facts[0]])) if single else None,
        "seeds": row.map.num_seeds,
    }
    return {**about, **_map(row.map), "cmc1": row.cmc1, **_gap(row.gap), **rest}


def _map(found: SeedEstimate) -> Row:
    return {"map": found.mean, "map_sd": found.sd, "map_low": found.low, "map_high": found.high}


def _gap(gap: Comparison | None) -> Row:
    """Difference to the first, blank for itself."""
    names = {"gap": "difference", "gap_low": "low", "gap_high": "high"}
    return {name: getattr(gap, part) if gap else None for name, part in names.items()}


def _text(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
