"""Reports on the tasks that search no gallery: a run in detail, or several side by side with CLIP as it is."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path

import pandas as pd

from handclip_core.evaluation.bootstrap import Comparison as Paired
from handclip_core.evaluation.bootstrap import Estimate, compare_paired, estimate
from handclip_core.evaluation.metrics import Metric
from handclip_core.evaluation.units import Evaluation
from handclip_core.reports.results import ComparisonTable, Report
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.cost import Cost
from handclip_core.runs.loaded import LoadedRun
from handclip_core.runs.run_folder import write_bytes, write_json
from handclip_core.tasks.base import Split

NONE = "–"


@dataclass(frozen=True)
class Method:
    """What a model was measured at, and what it took; nothing is said of what training CLIP as it is took."""

    scores: Evaluation
    cost: Cost | None = None


def evaluated(folder: Path, run: LoadedRun, split: Split) -> Report:
    """The figures of a run with intervals, and its task's tables, which are written into the folder."""
    found, task = run.context.evaluator(split).evaluate(run.model, run.inputs), run.context.task
    intervals = {metric.name: asdict(estimate(found, metric.name)) for metric in task.metrics.in_finals}
    values = {"run": str(folder), "split": split, "metrics": found.metrics, "intervals": intervals}
    write_json(folder / f"evaluation_{split}.json", values)
    task.save(folder / f"evaluation_{split}.npz", found)
    for name, content in found.files.items():
        as_bytes = content if isinstance(content, bytes) else content.encode("utf-8")
        write_bytes(folder / f"evaluation_{split}_{name}", as_bytes)
    lines = [
        f"{metric.label} {found.mean(metric.name):.4f} (95 % {intervals[metric.name]['low']:.4f} to "
        f"{intervals[metric.name]['high']:.4f} over {intervals[metric.name]['num_identities']} {task.clusters})"
        for metric in task.metrics.in_finals
    ]
    return Report(text="\n".join([found.text, *lines]), values=values)


def side_by_side(methods: Mapping[str, Method], context: ExperimentContext) -> ComparisonTable:
    """The table that is published of ``methods``, each held against the first, which is CLIP as it is.

    Raises InputError if they were not scored on the same questions.
    """
    reference = next(iter(methods.values())).scores
    rows = [_Row.of(name, method, reference, context.task.metrics.compared) for name, method in methods.items()]
    return ComparisonTable(markdown=_markdown(rows, context), csv=_csv(rows))


@dataclass(frozen=True)
class _Row:
    """A method with its figures and their gaps to the reference, none for that itself."""

    name: str
    cost: Cost | None
    metrics: tuple[Metric, ...]
    estimates: Mapping[str, Estimate]
    gaps: Mapping[str, Paired]

    @classmethod
    def of(cls, name: str, method: Method, reference: Evaluation, metrics: tuple[Metric, ...]) -> "_Row":
        scores = method.scores
        own = {metric.name: estimate(scores, metric.name) for metric in metrics}
        gaps = (
            {}
            if scores is reference
            else {metric.name: compare_paired(scores, reference, metric.name) for metric in metrics}
        )
        return cls(name, method.cost, metrics, own, gaps)


def _markdown(rows: list[_Row], context: ExperimentContext) -> str:
    """In percent; the interval and the gap are those of the objective, which stands first."""
    first, *others = rows[0].metrics
    heads = ["method", first.label, "95 %", f"gap of {first.label}", "95 % of gap", "P(better)"]
    heads += [*(metric.label for metric in others), "weights trained", "of all", "memory, MiB", "training, s"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in rows:
        own, gap = row.estimates[first.name], row.gaps.get(first.name)
        cells = [row.name.replace("|", "\\|"), _percent(own.value), _span(own)]
        cells += [f"{100 * gap.difference:+.2f}", _span(gap), f"{gap.probability:.3f}"] if gap else [NONE] * 3
        cells += [*(_percent(row.estimates[metric.name].value) for metric in others), *_cost(row.cost)]
        lines.append(f"| {' | '.join(cells)} |")
    clusters = f"{rows[0].estimates[first.name].num_identities} {context.task.clusters}"
    lines.append(
        f"\nMeans over {context.task.averaged}; intervals by resampling {clusters}. Weights are those of the model as "
        f"it is trained; memory is the most at a time while it was, of the GPU for what was trained on one, else of "
        "the whole process, libraries and all; seconds are of training alone."
    )
    return "\n".join(lines) + "\n"


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["0", "0 %", NONE, NONE]
    seconds = NONE if isnan(cost.train_s) else f"{cost.train_s:,.1f}"
    memory = NONE if cost.peak_mib is None else f"{cost.peak_mib:,.0f}"
    return [f"{cost.params_trained:,}", f"{100 * cost.share_trained:.3g} %", memory, seconds]


def _csv(rows: list[_Row]) -> str:
    """As fractions: of every figure the value, its interval and its gap; then what the run took."""
    table = []
    for row in rows:
        cells: dict[str, object] = {"method": row.name}
        for name, own in row.estimates.items():
            gap = row.gaps.get(name)
            cells |= {name: own.value, f"{name}_low": own.low, f"{name}_high": own.high}
            parts = {"gap": "difference", "gap_low": "low", "gap_high": "high", "p_better": "probability"}
            cells |= {f"{name}_{part}": None if gap is None else getattr(gap, field) for part, field in parts.items()}
        table.append(cells | (asdict(row.cost) if row.cost else {"params_trained": 0}))
    buffer = io.StringIO()
    pd.DataFrame(table).to_csv(buffer, index=False)
    return buffer.getvalue()


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _span(interval: Estimate | Paired) -> str:
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
