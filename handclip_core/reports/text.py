"""Reports as text for a terminal."""

import io
from collections.abc import Mapping, Sequence

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Column, Table

from handclip_core.evaluation.bootstrap import Estimate, estimate
from handclip_core.evaluation.breakdown import GroupScores
from handclip_core.evaluation.compare import HEADINGS
from handclip_core.evaluation.open_set import OpenSetScores
from handclip_core.evaluation.protocol import METRICS, ProtocolScores, Scores
from handclip_core.evaluation.verification import VerificationScores

WIDTH = 180


def plain_table(*headings: str) -> Table:
    """A table that reads alike on a terminal and in a log; what is too long for its column goes on below."""
    return Table(*(Column(heading, overflow="fold") for heading in headings), header_style="", box=MARKDOWN)


def scores_table(models: Mapping[str, ProtocolScores], *, split: str) -> str:
    """Every model's means over gallery splits in percent with their sd, by aspect and over all, with an interval of the
    mAP.
    """
    first = next(iter(models.values()))
    table = plain_table("model", "aspect", *(HEADINGS[name] for name in METRICS), "95 % of mAP")
    for name, scores in models.items():
        for aspect, values in scores.per_aspect.items():
            table.add_row(name, aspect, *_cells(values), _interval(estimate(scores, part=aspect)))
        table.add_row(name, "mean", *_cells(scores.overall), _interval(estimate(scores)), end_section=True)
    identities = estimate(first).num_identities
    unmatched = f", {first.num_unmatched} without a match" if first.num_unmatched else ""
    about = (
        f"{split}: {first.num_queries} queries of {identities} identities over all draws{unmatched}, "
        f"gallery '{first.gallery}'; percent, mean ± sd over draws; intervals by resampling identities"
    )
    return f"{about}\n{_rendered(table)}"


def verification_text(verified: VerificationScores) -> str:
    """Error rates of deciding whether two images of one aspect show one identity."""
    lines = [
        f"verification: EER {100 * verified.eer:.2f} %, AUC {verified.auc:.4f}, d' {verified.d_prime:.2f} "
        f"({verified.num_genuine} genuine, {verified.num_impostor} impostor pairs; thresholds from validation)"
    ]
    for point in verified.points:
        rough = " (rough: fewer than 30 errors expected)" if point.rough else ""
        lines.append(f"  TAR {100 * point.tar:.2f} % at FAR {point.far:g}, measured {point.far_measured:.2g}{rough}")
    lines += [f"  FAR {refusal.far:g}: refused, {refusal.reason}" for refusal in verified.refused]
    return "\n".join(lines)


def open_set_text(found: OpenSetScores | str) -> str:
    """Identification if some of the identities searched for are not in the gallery."""
    if isinstance(found, str):
        return f"open set: refused, {found}"
    return (
        f"open set: TPIR {100 * found.tpir:.2f} % at FPIR {found.fpir:g}, measured {found.fpir_measured:.2g} "
        f"({found.num_mated} searches of identities in the gallery, {found.num_unmated} of others; threshold from "
        f"validation)"
    )


def cross_table(crossed: Mapping[tuple[str, str], ProtocolScores]) -> str:
    """mAP of queries of one aspect in the gallery of another, in which the same identity is the match."""
    aspects = list(dict.fromkeys(name for pair in crossed for name in pair))
    table = plain_table("query, gallery:", *aspects)
    for one in aspects:
        cells = [crossed.get((one, other)) for other in aspects]
        table.add_row(one, *("" if cell is None else _percent(cell.overall.map.mean) for cell in cells))
    return f"across aspects, mAP in percent\n{_rendered(table)}"


def breakdown_table(groups: Sequence[GroupScores]) -> str:
    """For whom the model works: mAP and R1 by group, with counts."""
    table = plain_table("group", "value", "people", "images", "mAP", "95 %", "R1")
    for group in groups:
        if group.map is None or group.cmc1 is None:
            figures = ("no match", "", "")
        else:
            figures = (_percent(group.map.value), _interval(group.map), _percent(group.cmc1.value))
        table.add_row(group.group, group.value, str(group.num_identities), str(group.num_images), *figures)
    return _rendered(table)


def _cells(scores: Scores) -> list[str]:
    figures = [getattr(scores, name) for name in METRICS]
    return [
        _percent(figure.mean) + (f" ± {100 * figure.sd:.2f}" if figure.sd is not None else "") for figure in figures
    ]


def _interval(found: Estimate) -> str:
    return f"{_percent(found.low)} to {_percent(found.high)}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _rendered(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH).print(table)
    return buffer.getvalue().strip()
