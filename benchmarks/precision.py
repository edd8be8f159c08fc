"""Whether bfloat16 costs anything in scores, and what it saves: the same runs in both precisions, seed by seed.

Data and rates are those of ``benchmarks/strategies.py``. Prints, of each strategy, validation and test mAP with the sd
over seeds, the mean of the paired gaps with its standard error, and the CPU seconds of training.
Run: python -m benchmarks.precision [--seeds 5] [--people 72] [--budget 10] [--only full lora]
"""

import argparse
import statistics

from benchmarks.strategies import CPU, experiment_of
from handclip_core.data.sources import DrawnData
from handclip_core.engine.precision import Precision
from handclip_core.models.lora import restored
from handclip_core.runs.experiment import built, context_of, run, score

BOTH = (Precision.FLOAT32, Precision.BFLOAT16)
Result = tuple[float, float, float]
"""Validation mAP, test mAP of the best unit, and CPU seconds of training."""


def trained(name: str, data: DrawnData, budget: int, seed: int, precision: Precision) -> Result:
    """One run, its weights chosen by validation."""
    experiment = experiment_of(name, data, budget, seed).model_copy(update={"precision": precision})
    best, weights, cpu_s = -1.0, {}, 0.0
    for progress in run(experiment, device=CPU):
        cpu_s += progress.cpu_s
        if progress.metrics["map"] > best:
            best = progress.metrics["map"]
            weights = {key: value.clone() for key, value in progress.state.model.state_dict().items()}
    context = context_of(experiment, CPU)
    model = restored(built(experiment, context), weights).eval()
    return best, score(context, model, context.pixel_inputs, "test").mean("map"), cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=72)
    parser.add_argument("--budget", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=["full", "lora"])
    given = parser.parse_args()
    data = DrawnData(people=given.people, images_per_aspect=5, sittings=5)
    print("| strategy | precision | val mAP | test mAP | CPU s |\n|---|---|---:|---:|---:|", flush=True)
    for name in given.only:
        found: dict[Precision, list[Result]] = {precision: [] for precision in BOTH}
        for seed in range(given.seeds):
            for precision in BOTH:  # in turns, so that whatever else the machine does meets both
                found[precision].append(trained(name, data, given.budget, seed, precision))
        for precision, results in found.items():
            val, test, cpu_s = zip(*results, strict=True)
            spread = [f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}" for values in (val, test)]
            print(f"| {name} | {precision} | {' | '.join(spread)} | {statistics.median(cpu_s):.1f} |", flush=True)
        for place, split in enumerate(("val", "test")):
            gaps = [low[place] - high[place] for high, low in zip(*found.values(), strict=True)]
            error = statistics.stdev(gaps) / len(gaps) ** 0.5
            print(f"{name}, {split}: bfloat16 less float32 {statistics.mean(gaps):+.4f}, s.e. {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
