"""Every strategy at equal budget on drawn hands, over several seeds, beside zero-shot CLIP and baselines.

Each strategy has the settings of RECIPES: its published defaults, with rates that suit a CLIP of three million weights
(the published 1e-5 is for a hundred million). Weights are chosen by validation mAP, as a sweep does it, and then scored
on the test identities. Each strategy has a process of its own, so that its peak memory is its own.

Speed is measured apart, in rounds: in each, every strategy trains a tenth of the budget, one after the other, so that
whatever else the machine does meets all of them. Printed is the median over the rounds, with the lowest and highest.
Run: python benchmarks/strategies.py [--seeds 3] [--people 72] [--budget 10] [--only NAME ...]
                                        [--closed-form metric]
     python benchmarks/strategies.py --only              (the baselines alone)
     python benchmarks/strategies.py --speed [--rounds 5]
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from handclip_core.data.sources import DrawnData, open_data
from handclip_core.evaluation.baselines import BASELINES
from handclip_core.evaluation.embed import embed
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import cache_root
from handclip_core.reports.measure import View, scored
from handclip_core.runs.baselines import baseline_scores
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment, assemble, run
from handclip_core.runs.run_folder import load_run
from handclip_core.strategies import ALL, UNTRAINED, Whitening, serving
from handclip_core.tasks import IDENTITIES
from handclip_core.tasks.base import Split

CPU = torch.device("cpu")
TOWER: dict[str, Any] = {
    "rates": "published",
    "optim": {"lr": 7e-4, "schedule": "cosine", "warmup": 0.1},
    "neck": {"kind": "bn"},
    "head_lr_scale": 30,
}
RECIPES: dict[str, dict[str, Any]] = {
    "zero_shot": {},
    "linear_probe": {"optim": {"lr": 3e-3, "schedule": "cosine"}},
    "adapters": {},
    "lora": {},
    "whitening": {},
    "clip_reid": {
        "rates": "published",
        "optim": {"lr": 3e-4, "schedule": "cosine", "warmup": 0.1, "batch_size": 64},
        "prompts": {"share": 0.3, "optim": {"lr": 0.03, "batch_size": 16}},
        "losses": {
            "identity": {"weight": 0.25, "smoothing": 0.1},
            "triplet": {"weight": 1.0, "mining": "semihard"},
            "image_text": {"weight": 1.0, "smoothing": 0.1},
        },
    },
}
"""What differs from a strategy's defaults; strategies that are not named train the tower: TOWER."""


CLOSED_FORMS: dict[str, dict[str, Any]] = {
    "none": {},
    "metric": {"metric": {"kind": "wccn", "shrinkage": 0.1}},
    "readout": Whitening().neck.model_dump(include={"source", "readout", "metric"}),
}
"""What is added to the neck of every strategy that has one: a metric on its embedding, or all readouts and theirs."""


@dataclass
class Row:
    """What a strategy did over its seeds."""

    name: str
    params: int = 0
    weights: int = 0
    peak_mib: float = 0.0
    val: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def line(self) -> str:
        """A row of the table."""
        cells = [
            self.name,
            _spread(self.val),
            _spread(self.test),
            f"{self.params:,}",
            f"{self.weights:,}",
            f"{self.peak_mib:,.0f}",
            f"{statistics.median(self.seconds):.0f}" if self.seconds else "",
        ]
        return "| " + " | ".join(cells) + " |"


HEAD = (
    "| strategy | val mAP | test mAP | trained weights | weights | peak MiB | s a run |\n"
    "|---|---|---|---:|---:|---:|---:|"
)


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}" if values else ""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def experiment_of(name: str, data: DrawnData, budget: int, seed: int, closed_form: str = "none") -> Experiment:
    strategy = {"name": name, **RECIPES.get(name, TOWER)}
    if closed_form != "none" and name != "zero_shot":
        default: Any = next(kind for kind in ALL if kind.model_fields["name"].default == name)()  # type: ignore[call-arg]
        neck = {**default.neck.model_dump(), **strategy.get("neck", {})}
        strategy["neck"] = {**neck, **CLOSED_FORMS[closed_form]}
    return Experiment.model_validate({"strategy": strategy, "data": data, "budget": budget, "seed": seed})


def measured(name: str, data: DrawnData, budget: int, seeds: int, closed_form: str) -> Row:
    """Run a strategy on every seed, in this process."""
    torch.set_num_threads(1)
    context = open_context(data, BackboneSettings(), CPU)
    row = Row(name)
    for seed in range(1, (1 if name in UNTRAINED else seeds) + 1):
        one_seed(row, experiment_of(name, data, budget, seed, closed_form), context)
    row.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def one_seed(row: Row, experiment: Experiment, context: ExperimentContext) -> None:
    ready = assemble(experiment, context)
    row.weights = sum(parameter.numel() for parameter in ready.model.parameters())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        driven = drive(experiment, Path(folder) / "run", device=CPU)
        for report in driven:
            row.params = max(row.params, report.params_trained)
        model = load_run(Path(folder) / "run", device=CPU)
    row.seconds.append(time.perf_counter() - started)
    row.val.append(driven.record.best["map"])
    embeddings = embed(model, context.pixel_inputs, context.rows("test"), aspects=context.aspect_indices, device=CPU)
    scores = scored(embeddings, context, View("test"), similarity=model.similarity)
    row.test.append(float(scores.overall.map.mean))


def baseline(name: str, data: DrawnData) -> Row:
    """A row of pixels or gradients."""
    context = open_context(data, BackboneSettings(), CPU)
    row = Row(name)
    splits: tuple[tuple[Split, list[float]], ...] = (("val", row.val), ("test", row.test))
    for split, values in splits:
        values.append(baseline_scores(name, context, split).mean("map"))
    return row


def table(names: list[str], data: DrawnData, budget: int, seeds: int, closed_form: str) -> None:
    """Print the table of scores and costs."""
    open_data(data, cache=cache_root())  # drawn here, as the pool's process below may have no children
    print(HEAD)
    for name in BASELINES if closed_form == "none" else ():
        print(baseline(name, data).line(), flush=True)
    context = multiprocessing.get_context("spawn")
    for name in names:
        with context.Pool(1) as pool:
            print(pool.apply(measured, (name, data, budget, seeds, closed_form)).line(), flush=True)


def speed(names: list[str], data: DrawnData, budget: int, rounds: int) -> None:
    """Print the images a second of every strategy, measured in turns in one process."""
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {name: [] for name in names if name not in UNTRAINED}
    for _ in range(rounds):
        for name, found in rates.items():
            experiment = experiment_of(name, data, max(1, budget // 10), seed=1)
            units = list(run(experiment, device=CPU))
            found.append(units[-1].images / sum(unit.train_s for unit in units))
    print("| strategy | images/s | lowest to highest |\n|---|---:|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} |")


def main() -> None:
    names = list(serving(IDENTITIES))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--budget", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--closed-form", choices=list(CLOSED_FORMS), default="none", help="added to every neck")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    data = DrawnData(people=given.people, images_per_aspect=5, sittings=5)
    if given.speed:
        speed(given.only, data, given.budget, given.rounds)
    else:
        table(given.only, data, given.budget, given.seeds, given.closed_form)


if __name__ == "__main__":
    main()
