"""How much sequential training forgets on drawn hands, and what EWC's strength does about it.

Rates are high on purpose: with gentle ones, aspects of drawn hands teach one another and nothing is forgotten.
Run: python benchmarks/forgetting.py [--people 36] [--budget 8] [--lr 2e-3] [--seeds 2]
"""

import argparse
from statistics import mean

import torch

from handclip_core.engine.state import TrainingState
from handclip_core.evaluation.forgetting import sequential_scores
from handclip_core.experiment import Experiment, run

STRENGTHS = (0.0, 10.0, 1e3, 1e5)


def last_state(experiment: Experiment) -> TrainingState:
    *_, last = run(experiment, device=torch.device("cpu"))
    return last.state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| strength | forgetting | average mAP | mAP of an aspect right after its phase |")
    print("|---:|---:|---:|---:|")
    for strength in STRENGTHS:
        rows = []
        for seed in range(1, given.seeds + 1):
            strategy = {
                "name": "sequential_ewc",
                "strength": strength,
                "fisher_samples": 10,
                "optim": {"lr": given.lr},
                "head_lr_scale": 10,
            }
            data = {"source": "drawn", "people": given.people, "images_per_aspect": 5}
            values = {"strategy": strategy, "data": data, "budget": given.budget, "seed": seed}
            matrix = last_state(Experiment.model_validate(values)).milestones
            found = sequential_scores(matrix)
            assert found.forgetting is not None
            rows.append((found.forgetting, found.average, mean(matrix[i + 1][i] for i in range(len(matrix[0])))))
        cells = " | ".join(f"{mean(column):.4f}" for column in zip(*rows, strict=True))
        print(f"| {strength:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
