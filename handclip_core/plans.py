"""The plan of an experiment as a table: what would be trained, on what, without training anything."""

import io

import torch
from rich.console import Console
from rich.table import Table

from handclip_core.bench import open_bench
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Phase
from handclip_core.engine.plan import Span, plan
from handclip_core.experiment import Assembled, Experiment, assemble

WIDTH = 100
HEADINGS = ("rows", "classes", "batch", "steps", "images", "trained weights", "peak lr", "losses", "pictures")


def plan_table(experiment: Experiment, *, device: torch.device) -> str:
    """The phases of ``experiment`` as text; raises InputError where it cannot be run."""
    ready = assemble(experiment, open_bench(experiment.data, experiment.backbone, device))
    spans = plan(ready.phases, budget=ready.budget.units, epoch_images=ready.budget.epoch_images)
    weights = sum(parameter.numel() for parameter in ready.model.parameters())
    head = (
        f"strategy {experiment.strategy.name}, backbone {experiment.backbone.name}, seed {experiment.seed}\n"
        f"budget {ready.budget.units} x {ready.budget.epoch_images} images, {weights:,} weights, "
        f"embedding of {ready.model.width}\n"
    )
    if not ready.phases:
        return head + "no phase: nothing is trained"
    columns = [_cells(ready, i, phase, span) for i, (phase, span) in enumerate(zip(ready.phases, spans, strict=True))]
    table = Table("phase", *(phase.name for phase in ready.phases), header_style="")
    for heading, *cells in zip(HEADINGS, *columns, strict=True):
        table.add_row(heading, *cells)
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH).print(table)
    return head + buffer.getvalue().rstrip()


def _cells(ready: Assembled, index: int, phase: Phase, span: Span) -> list[str]:
    chosen = choose(ready.model, phase.train)
    batch_size = phase.data.sampler.batch_size
    rates = sorted({phase.optim.lr * item.train.lr_scale for item in chosen})
    names = [f"{term.weight:g} {term.name}" for term in phase.terms]
    names += [type(penalty).__name__.lower() for penalty in phase.penalties]
    return [
        str(len(phase.data.rows)),
        str(len(set(phase.data.pool.labels.tolist()))),
        str(batch_size),
        str(span.num_steps),
        str(span.num_steps * batch_size),
        f"{sum(item.parameter.numel() for item in chosen):,}",
        f"{rates[0]:.2g}" if len(rates) == 1 else f"{rates[0]:.2g} to {rates[-1]:.2g}",
        " + ".join(names),
        _pictures(ready, index),
    ]


def _pictures(ready: Assembled, index: int) -> str:
    """What a phase reads."""
    blocks = ready.cached_blocks(index)
    if blocks == len(ready.bench.template.blocks()):
        return "cached features"
    if blocks > 1:
        return f"cached after {blocks} blocks"
    return "augmented" if ready.phases[index].data.augment.active else "plain"
