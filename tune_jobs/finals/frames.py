"""The finals as data frames, for programs: fractions, and a CSV file each."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import pandas as pd

from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.seeds import SeedEstimate
from tune_jobs.finals.ranking import BaselineStanding, Cost, Standing, Standings, StrategyVerdict

GPU_COSTS = ("fit_gpu_hours", "search_gpu_hours", "images_s")
CPU_COSTS = ("fit_cpu_hours", "search_core_hours", "images_cpu_s")
Row = dict[str, str | int | float | None]


def frames(standings: Standings, verdicts: Sequence[StrategyVerdict], cost: Cost) -> Mapping[str, pd.DataFrame]:
    """The frames by the name of their file."""
    objective = standings.task.metrics.objective.name
    found = {
        "finalists": [
            *(_finalist(place, row, objective) for place, row in enumerate(standings.rows, start=1)),
            *(_baseline(row, objective) for row in standings.baselines),
        ],
        "verdict": [_verdict(one, cost, objective) for one in verdicts],
        "p_beats": _wins(standings),
    }
    # Columns of objects: a number that is missing must not turn the others of its column into fractions.
    return {name: pd.DataFrame(rows, dtype=object) for name, rows in found.items()}


def _finalist(place: int, row: Standing, objective: str) -> Row:
    """An entrant; what only a trained configuration has is blank for mixtures and fusions."""
    recipe, single, facts = row.entrant.recipe, row.entrant.single, row.entrant.facts[0]
    member = recipe.members[0]
    return {
        "place": place,
        "finalist": row.entrant.name,
        "strategy": recipe.strategy,
        **({"backbone": recipe.backbone} if recipe.backbone else {}),
        "kind": str(recipe.kind),
        "trial": member.trial if single else None,
        **_figures(row, objective),
        f"swept_{objective}": member.swept_score if single else None,
        f"peak_{objective}": fmean(one.peak for one in facts) if single else None,
        "peak_unit": fmean(one.peak_unit for one in facts) if single else None,
        "seeds": row.score.num_seeds,
    }


def _baseline(row: BaselineStanding, objective: str) -> Row:
    """A baseline, after the entrants; it has no place, and its one figure no seeds."""
    return {"finalist": row.name, "kind": "baseline", **_figures(row, objective)}


def _figures(row: Standing | BaselineStanding, objective: str) -> Row:
    """What entrants and baselines both have."""
    beats = {"p_beats_first": row.gap.probability if row.gap else None, "p_beats_zero_shot": row.beats_zero_shot}
    return _score(row.score, objective) | row.others | _gap(row.gap) | beats


def _verdict(one: StrategyVerdict, cost: Cost, objective: str) -> Row:
    """A strategy; the names of hours and speed say by what they were counted."""
    fit, search, speed = GPU_COSTS if cost.on_gpus else CPU_COSTS
    return {
        "strategy": one.strategy,
        **({"backbone": one.backbone} if one.backbone else {}),
        "best": one.best.name,
        "verdict": str(one.verdict),
        "swept_trials": one.searched.trials,
        "swept_units": one.searched.units,
        **_score(one.best.score, objective),
        **_gap(one.best.gap),
        fit: one.fit_hours,
        search: one.search_hours,
        "params_trained": one.params_trained,
        speed: one.images_s,
    }


def _wins(standings: Standings) -> list[Row]:
    """P(row beats column)."""
    names = [row.entrant.name for row in standings.rows]
    by_row = zip(names, standings.wins.tolist(), strict=True)
    return [{"finalist": name, **dict(zip(names, wins, strict=True))} for name, wins in by_row]


def _score(found: SeedEstimate, name: str) -> Row:
    return {name: found.mean, f"{name}_sd": found.sd, f"{name}_low": found.low, f"{name}_high": found.high}


def _gap(gap: Comparison | None) -> Row:
    """Difference to the first, blank for itself."""
    names = {"gap": "difference", "gap_low": "low", "gap_high": "high"}
    return {name: getattr(gap, part) if gap else None for name, part in names.items()}
