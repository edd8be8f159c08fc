"""Several models side by side, with intervals over identities, as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import Comparison, Estimate, compare_paired, estimate
from handclip_core.evaluation.protocol import METRICS, ProtocolScores

MEAN = "mean"
"""Name of the scope that is the mean over aspects."""
HEADINGS = {
    "map": "mAP",
    "map_trapezoid": "mAP (trapezoid)",
    "minp": "mINP",
    "cmc1": "R1",
    "cmc5": "R5",
    "cmc10": "R10",
}


@dataclass(frozen=True)
class Row:
    """One model in one scope (an aspect, or MEAN): its metrics and its gaps to the reference, None for that itself."""

    model: str
    scope: str
    estimates: Mapping[str, Estimate]
    sds: Mapping[str, float | None]
    gaps: Mapping[str, Comparison] | None
    num_queries: int
    num_unmatched: int


def compare_models(models: Mapping[str, ProtocolScores], *, reference: str | None = None, seed: int = 0) -> list[Row]:
    """Rows of all models, scope by scope: the mean over aspects, then each aspect if there is more than one.

    ``reference`` is the model that the others are held against, the first if not named. Raises InputError if the
    models were not scored on the same queries, draws and gallery, or the reference is not among them.
    """
    if not models:
        raise InputError("there are no models to compare")
    against = next(iter(models)) if reference is None else reference
    if against not in models:
        raise InputError(f"the reference '{against}' is not among the models: {', '.join(models)}")
    aspects = models[against].aspects
    scopes = (None, *aspects) if len(aspects) > 1 else (None,)
    return [_row(models, name, against, scope, seed) for scope in scopes for name in models]


def markdown(rows: list[Row], *, scope: str = MEAN, metric: str = "map") -> str:
    """A Markdown table of one scope in percent: all metrics, and of ``metric`` the interval and gap to the
    reference.
    """
    chosen = [row for row in rows if row.scope == scope]
    if not chosen:
        raise InputError(f"there are no rows of '{scope}' to show")
    name = HEADINGS[metric]
    lines = [
        f"| model | {' | '.join(HEADINGS.values())} | 95 % of {name} | gap of {name} | 95 % of gap | P(better) |",
        f"|---|{'---:|' * (len(HEADINGS) + 4)}",
        *(_markdown_row(row, metric) for row in chosen),
    ]
    identities = chosen[0].estimates[metric].num_identities
    unmatched = f", {chosen[0].num_unmatched} of them without a match" if chosen[0].num_unmatched else ""
    lines.append(
        f"\n{chosen[0].num_queries} queries of {identities} identities{unmatched}; intervals by resampling identities."
    )
    return "\n".join(lines) + "\n"


def as_csv(rows: list[Row]) -> str:
    """All rows as CSV, as fractions: for every metric the value, its sd over gallery splits, its interval, and its
    gap.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    parts = ("", "_sd", "_low", "_high", "_gap", "_gap_low", "_gap_high", "_p_better")
    writer.writerow(["model", "scope", "num_queries", "num_unmatched", *(m + part for m in METRICS for part in parts)])
    for row in rows:
        cells: list[str | int | float | None] = [row.model, row.scope, row.num_queries, row.num_unmatched]
        for metric in METRICS:
            own = row.estimates[metric]
            gap = row.gaps[metric] if row.gaps else None
            cells += [own.value, row.sds[metric], own.low, own.high]
            cells += [gap.difference, gap.low, gap.high, gap.probability] if gap else [None] * 4
        writer.writerow(cells)
    return buffer.getvalue()


def _row(models: Mapping[str, ProtocolScores], name: str, reference: str, aspect: str | None, seed: int) -> Row:
    scores = models[name]
    figures = scores.overall if aspect is None else scores.per_aspect[aspect]
    gaps = None
    if name != reference:
        try:
            gaps = {m: compare_paired(scores, models[reference], m, part=aspect, seed=seed) for m in METRICS}
        except InputError as error:
            raise InputError(f"'{name}' cannot be compared with '{reference}': {error}") from None
    mask = slice(None) if aspect is None else scores.queries.aspect == scores.aspects.index(aspect)
    ranks = scores.queries.first_rank[mask]
    return Row(
        model=name,
        scope=aspect or MEAN,
        estimates={metric: estimate(scores, metric, part=aspect, seed=seed) for metric in METRICS},
        sds={metric: getattr(figures, metric).sd for metric in METRICS},
        gaps=gaps,
        num_queries=len(ranks),
        num_unmatched=int((ranks == 0).sum()),
    )


def _markdown_row(row: Row, metric: str) -> str:
    values = " | ".join(f"{100 * row.estimates[name].value:.2f}" for name in HEADINGS)
    own = row.estimates[metric]
    gap = row.gaps[metric] if row.gaps else None
    name = row.model.replace("|", "\\|")
    gaps = f"{100 * gap.difference:+.2f} | {_span(gap)} | {gap.probability:.3f}" if gap else "– | – | –"
    return f"| {name} | {values} | {_span(own)} | {gaps} |"


def _span(interval: Estimate | Comparison) -> str:
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
