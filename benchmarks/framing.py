"""Which framing is best on drawn hands: squeezed whole, cropped as CLIP was trained, or padded, before handclip-nano.

Run: python benchmarks/framing.py [--people 72] [--seeds 3]
"""

import argparse

import numpy as np
import torch

from handclip_core.data.framing import Framing
from handclip_core.data.sources import DrawnData
from handclip_core.evaluation.bootstrap import compare_paired
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment, context_of, run
from handclip_core.strategies import AnyStrategy, LinearProbe, Whitening, ZeroShot
from handclip_core.tasks.base import Split

CPU = torch.device("cpu")
UNITS = 10
SPLITS: tuple[Split, ...] = ("val", "test")
STRATEGIES: tuple[AnyStrategy, ...] = (
    ZeroShot(),
    Whitening(),
    LinearProbe.model_validate({"name": "linear_probe", "optim": {"lr": 1e-3}}),
)


def scored(experiment: Experiment, context: ExperimentContext) -> dict[Split, Evaluation]:
    """Scores of the last weights of ``experiment``: no unit is picked."""
    for progress in run(experiment, device=CPU):
        model = progress.state.model
    assert isinstance(model, HandModel)
    return {split: context.evaluator(split).evaluate(model, context.pixel_inputs) for split in SPLITS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = DrawnData(people=given.people, images_per_aspect=5, sittings=5)
    print("| strategy | framing | validation mAP | test mAP | test R1 | test mAP less that of squash (95 %) |")
    print("|---|---|---:|---:|---:|---:|")
    for strategy in STRATEGIES:
        squashed: Evaluation | None = None
        for framing in Framing:
            backbone = BackboneSettings(framing=framing)
            found = []
            for seed in range(given.seeds if strategy.trains else 1):
                experiment = Experiment(strategy=strategy, data=data, backbone=backbone, seed=seed, budget=UNITS)
                found.append(scored(experiment, context_of(experiment, CPU)))
            means = [[one[split].mean("map") for one in found] for split in SPLITS]
            means.append([one["test"].mean("cmc1") for one in found])
            cells = [
                f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
                for values in means
            ]
            gap = ""
            if squashed is None:
                squashed = found[0]["test"]
            else:
                one = compare_paired(found[0]["test"], squashed)
                gap = f"{one.difference:+.4f} ({one.low:.4f} to {one.high:.4f})"
            print(f"| {strategy.name} | {framing} | {' | '.join(cells)} | {gap} |", flush=True)


if __name__ == "__main__":
    main()
