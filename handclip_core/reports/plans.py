"""Plans as tables: what would be trained, on what, without training anything."""

import io
from itertools import groupby

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from handclip_core.data.samplers import PK, CrossAspect
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Optim, Phase, Schedule
from handclip_core.engine.plan import Span, plan
from handclip_core.reports.text import plain_table
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of
from handclip_core.strategies import ALL, Strategy

WIDTH = 100
WIDE = 1000
DEFAULTS = ("strategy", "phase", "share", "inputs", "batches", "trained", "losses", "peak rate", "schedule")
HEADINGS = ("rows", "classes", "batch", "steps", "images", "trained weights", "peak lr", "losses", "inputs")


def plan_table(experiment: Experiment, *, device: torch.device) -> str:
    """The phases of ``experiment`` as text; raises InputError if it cannot be run."""
    ready = assemble(experiment, context_of(experiment, device))
    spans = plan(ready.phases, budget=ready.budget.units, epoch_images=ready.budget.epoch_images)
    weights = sum(parameter.numel() for parameter in ready.model.parameters())
    head = (
        f"strategy {experiment.strategy.name}, backbone {experiment.backbone.name}, seed {experiment.seed}\n"
        f"budget {ready.budget.units} x {ready.budget.epoch_images} images, {weights:,} weights, "
        f"embedding of {ready.model.width}\n{_closed_form_text(ready)}"
    )
    if not ready.phases:
        return head + "no phase: nothing is trained"
    columns = [_cells(ready, i, phase, span) for i, (phase, span) in enumerate(zip(ready.phases, spans, strict=True))]
    table = plain_table("phase", *(phase.name for phase in ready.phases))
    for heading, *cells in zip(HEADINGS, *columns, strict=True):
        table.add_row(heading, *cells)
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH).print(table)
    return head + buffer.getvalue().strip()


def _closed_form_text(ready: Assembled) -> str:
    """A line of what is read inside of the tower, and one of the metric, if there are any."""
    readout, metric = ready.model.readout, ready.model.metric
    lines = []
    if readout:
        blocks = ", ".join(map(str, readout.blocks))
        num = len(ready.model.architecture.blocks())
        lines.append(f"reads blocks {blocks} of {num} by {readout.settings.pool}: {readout.width} numbers\n")
    if metric.active:
        settings, num = metric.settings, len(metric.widths)
        vectors = f"{num} vectors, {'all' if settings.vectors == 'all' else 'those that help'}; " if num > 1 else ""
        lines.append(
            f"metric {settings.kind}, {vectors}shrinkage {settings.shrinkage}, fitted in closed form before each "
            "validation\n"
        )
    return "".join(lines)


def default_plans(context: ExperimentContext) -> str:
    """The phases of every strategy with its published defaults, as a table in Markdown; those alike share a row."""
    table = Table(*DEFAULTS, box=MARKDOWN)
    for kind in (one for one in ALL if isinstance(context.task, one.tasks)):
        for row in _default_rows(kind(), context):  # type: ignore[call-arg]
            table.add_row(*row)
    buffer = io.StringIO()
    Console(file=buffer, width=WIDE).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().strip().splitlines())


def _default_rows(strategy: Strategy, context: ExperimentContext) -> list[tuple[str, ...]]:
    ready = assemble(Experiment.model_validate({"strategy": strategy.model_dump()}), context)
    if not ready.phases:
        return [(strategy.name, "none", *[""] * (len(DEFAULTS) - 2))]
    rows = []
    for cells, alike in groupby(enumerate(ready.phases), key=lambda numbered: _default_cells(ready, *numbered)):
        names = [phase.name for _, phase in alike]
        share, *others = cells
        rows.append((strategy.name, ", ".join(names), f"{len(names)} x {share}" if names[1:] else share, *others))
    return rows


def _default_cells(ready: Assembled, index: int, phase: Phase) -> tuple[str, ...]:
    whole = sum(each.share for each in ready.phases)
    return (
        f"{phase.share / whole:.0%}",
        _input_text(ready, index),
        _batches(phase),
        _parts(ready, phase),
        _losses(phase),
        _rates(ready, phase),
        _schedule(phase.optim),
    )


def _batches(phase: Phase) -> str:
    sampler = phase.data.sampler
    if isinstance(sampler, PK | CrossAspect):
        return f"{sampler.p} x {sampler.k}" + (" across aspects" if isinstance(sampler, CrossAspect) else "")
    return f"{sampler.batch_size} {type(sampler).__name__.lower()}"


def _parts(ready: Assembled, phase: Phase) -> str:
    """The parts of the model that a phase trains, whole or not."""
    names = {item.name for item in choose(ready.model, phase.train)}
    found = []
    for part, module in ready.model.named_children():
        inside = {f"{part}.{name}" for name, _ in module.named_parameters()}
        if inside & names:
            found.append(part if inside <= names else f"part of {part}")
    return ", ".join(found)


def _schedule(optim: Optim) -> str:
    warmup = f"warm-up {optim.warmup:.0%}, " if optim.warmup else ""
    drops = " at " + ", ".join(f"{drop:.0%}" for drop in optim.drops) if optim.schedule is Schedule.STEPS else ""
    return f"{warmup}{optim.schedule}{drops}"


def _losses(phase: Phase) -> str:
    names = [f"{term.weight:g} {term.name}" for term in phase.terms]
    return " + ".join([*names, *(type(penalty).__name__.lower() for penalty in phase.penalties)])


def _rates(ready: Assembled, phase: Phase) -> str:
    rates = sorted({phase.optim.lr * item.train.lr_scale for item in choose(ready.model, phase.train)})
    return f"{rates[0]:.2g}" if len(rates) == 1 else f"{rates[0]:.2g} to {rates[-1]:.2g}"


def _cells(ready: Assembled, index: int, phase: Phase, span: Span) -> list[str]:
    chosen = choose(ready.model, phase.train)
    batch_size = phase.data.sampler.batch_size
    return [
        str(len(phase.data.rows)),
        str(len(set(phase.data.pool.labels.tolist()))),
        str(batch_size),
        str(span.num_steps),
        str(span.num_steps * batch_size),
        f"{sum(item.parameter.numel() for item in chosen):,}",
        _rates(ready, phase),
        _losses(phase),
        _input_text(ready, index),
    ]


def _input_text(ready: Assembled, index: int) -> str:
    """What a phase reads."""
    blocks = ready.cached_blocks(index)
    if blocks == len(ready.context.pretrained.blocks()):
        return "cached features"
    if blocks > 1:
        return f"cached after {blocks} blocks"
    return "augmented" if ready.phases[index].data.augment.active else "plain"
