"""How much sequential training forgets on drawn hands, and what EWC's strength does about it.

One aspect after another, each person-and-aspect a class of its own, so that a phase brings new classes to the head.
Rates, neck and head are those of benchmarks/strategies.py. A gain is that of an aspect's mAP over its own phase.
Run: python benchmarks/forgetting.py [--people 72] [--budget 8] [--lr 7e-4] [--seeds 3] [--strengths 0 1 100]
"""

import argparse
from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

import torch

from handclip_core.engine.objective import DivergedError
from handclip_core.evaluation.forgetting import sequential_scores
from handclip_core.experiment import Experiment, run

STRENGTHS = (0.0, 0.01, 0.1, 1.0, 100.0, 1e5)
ORDER = ("dorsal right", "palmar left")


def experiment_of(given: argparse.Namespace, strength: float, seed: int) -> Experiment:
    strategy: dict[str, Any] = {
        "name": "sequential_ewc",
        "strength": strength,
        "fisher_samples": 10,
        "order": given.order,
        "labels": given.labels,
        "optim": {"lr": given.lr, "schedule": "cosine", "warmup": 0.1},
        "neck": {"kind": "bn"},
        "head_lr_scale": 30,
    }
    data = {"source": "drawn", "people": given.people, "images_per_aspect": 5}
    values = {"strategy": strategy, "data": data, "budget": given.budget, "seed": seed}
    return Experiment.model_validate(values)


def matrix_of(experiment: Experiment) -> list[list[float]]:
    """Validation mAP of every aspect [T] before the first phase and after each [T + 1, T]."""
    *_, last = run(experiment, device=torch.device("cpu"))
    return last.state.milestones


def figures(matrix: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Forgetting, the average after the last phase, and what each aspect gained in its own phase."""
    found = sequential_scores(matrix)
    assert found.forgetting is not None
    gains = (matrix[i + 1][i] - matrix[i][i] for i in range(len(matrix[0])))
    return (found.forgetting, found.average, *gains)


def row_of(given: argparse.Namespace, strength: float) -> str:
    """A row of the table: means and sd over seeds, or why a run ended."""
    try:
        matrices = [matrix_of(experiment_of(given, strength, seed)) for seed in range(1, given.seeds + 1)]
    except DivergedError as error:
        return f"| {strength:g} | diverged: {error} |"
    rows = [figures(matrix) for matrix in matrices]
    return f"| {strength:g} | {' | '.join(spread(column) for column in zip(*rows, strict=True))} |"


def spread(values: Iterable[float]) -> str:
    values = list(values)
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def zero_shot(given: argparse.Namespace) -> str:
    """What every aspect scores before anything is trained, the first row of each matrix."""
    points = run(experiment_of(given, 0.0, 1), device=torch.device("cpu"))
    before = next(points).state.milestones[0]
    points.close()
    return ", ".join(f"{aspect} {value:.3f}" for aspect, value in zip(given.order, before, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", default="person_aspect")
    parser.add_argument("--order", nargs="+", default=ORDER)
    parser.add_argument("--strengths", nargs="+", type=float, default=STRENGTHS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"zero-shot mAP: {zero_shot(given)}\n", flush=True)
    columns = ["strength", "forgetting", "average mAP at the end", *(f"gain of {aspect}" for aspect in given.order)]
    print(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}", flush=True)
    for strength in given.strengths:
        print(row_of(given, strength), flush=True)


if __name__ == "__main__":
    main()
