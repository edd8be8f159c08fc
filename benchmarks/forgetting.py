"""How much sequential training forgets on drawn hands, and what EWC's strength does about it.

One aspect after another, each identity-and-aspect a class of its own, so that a phase brings new classes to the head.
Rates, neck and head are those of benchmarks/strategies.py. In brackets, what an aspect gained in its own phase.
Run: python benchmarks/forgetting.py [--people 72] [--budget 8] [--lr 7e-4] [--seeds 5] [--strengths 0 1 100]
"""

import argparse
from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

import torch

from handclip_core.engine.objective import DivergedError
from handclip_core.evaluation.forgetting import sequential_scores
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.strategies import ZeroShot

STRENGTHS = (0.0, 0.1, 10.0, 1e5)
ORDER = ("dorsal right", "palmar left")


def experiment_of(given: argparse.Namespace, strength: float, seed: int) -> Experiment:
    strategy: dict[str, Any] = {
        "name": "sequential_ewc",
        "strength": strength,
        "fisher_samples": 10,
        "order": given.order,
        "labels": given.labels,
        "optim": {"lr": given.lr, "schedule": "cosine", "warmup": 0.1},
        "rates": "published",
        "neck": {"kind": "bn"},
        "head_lr_scale": 30,
    }
    data = {"source": "drawn", "people": given.people, "images_per_aspect": 5}
    values = {"strategy": strategy, "data": data, "budget": given.budget, "seed": seed}
    return Experiment.model_validate(values)


def matrix_of(experiment: Experiment) -> list[list[float]]:
    """Validation mAP of every aspect [T] before the first phase and after each [T + 1, T]."""
    *_, last = run(experiment, device=torch.device("cpu"))
    return last.state.evaluation_points


def row_of(given: argparse.Namespace, strength: float) -> str:
    """A row of the table: means and sd over seeds, or why a run ended."""
    try:
        matrices = [matrix_of(experiment_of(given, strength, seed)) for seed in range(1, given.seeds + 1)]
    except DivergedError as error:
        return f"| {strength:g} | diverged: {error} |"
    scores = [sequential_scores(matrix) for matrix in matrices]
    forgetting = [found.forgetting for found in scores if found.forgetting is not None]
    each = ", ".join(f"{value:.3f}" for value in forgetting)
    after = " | ".join(after_its_phase(matrices, aspect) for aspect in range(len(given.order)))
    return f"| {strength:g} | {spread(forgetting)} | {each} | {spread(found.average for found in scores)} | {after} |"


def after_its_phase(matrices: Sequence[Sequence[Sequence[float]]], aspect: int) -> str:
    """An aspect's mAP right after its own phase, and in brackets what it has gained there."""
    own = [matrix[aspect + 1][aspect] for matrix in matrices]
    gained = mean(matrix[aspect + 1][aspect] - matrix[aspect][aspect] for matrix in matrices)
    return f"{spread(own)} ({gained:+.3f})"


def spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def zero_shot(given: argparse.Namespace) -> str:
    """The row of what is scored before anything is trained: what each matrix starts with."""
    experiment = experiment_of(given, 0.0, 1).model_copy(update={"strategy": ZeroShot()})
    context = open_context(experiment.data, experiment.backbone, torch.device("cpu"))
    scores = score(context, assemble(experiment, context).model, context.feature_inputs, "val")
    before = [scores.objective_of(aspect) for aspect in given.order]
    return f"| zero-shot | | | {mean(before):.3f} | {' | '.join(f'{value:.3f}' for value in before)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", default="person_aspect")
    parser.add_argument("--order", nargs="+", default=ORDER)
    parser.add_argument("--strengths", nargs="+", type=float, default=STRENGTHS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = [
        "strength",
        "forgetting",
        "on each seed",
        "average mAP",
        *(f"{aspect} after its phase" for aspect in given.order),
    ]
    print(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}\n{zero_shot(given)}", flush=True)
    for strength in given.strengths:
        print(row_of(given, strength), flush=True)


if __name__ == "__main__":
    main()
