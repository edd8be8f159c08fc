"""What the runner itself costs: seconds a trial for trials that do nothing, and whether thousands of them stay cheap.

``ray``: empty trials through the whole runner (journal, study, event logs, leaderboard, folders), one at a time in a
process that stays warm, beside empty trials with a Ray Train run inside each, on one cluster. What a sweep costs once
does not count: ours is timed from the end of each strategy's first trial, theirs is the slope over numbers of trials.
``simulated``: thousands of simulated trials; the driver's processor time and memory by the trials behind it.
Run: python benchmarks/overhead.py {ray,simulated} [--trials N]
"""

import argparse
import logging
import os
import resource
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import ray
from ray import tune

from handclip_core.evaluation.metrics import METRICS
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, LOG
from tests.tune_jobs.simulation import Clock, Machine, Step, simulate
from tune_jobs.config.settings import EarlyStopping, StoppingKind, SweepSettings
from tune_jobs.execution import tune_run
from tune_jobs.execution.cluster import TUNE_ENVIRONMENT, Room
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.execution.tune_run import run_trials
from tune_jobs.lifecycle.build import session
from tune_jobs.state.events import Ended
from tune_jobs.state.journal import FILE as JOURNAL
from tune_jobs.state.journal import read_journal

STRATEGIES = ("linear_probe", "full", "adapters", "lora")
ROOM = Room(device="cpu", cpus=1, gpus=0.0, concurrent=1, num_nodes=1)
SWEEPS = 3
EVERY = 500
"""Trials between two lines of the simulated sweep."""


class EmptyTrial(HandTrial):
    """A trial that reports one score and saves two small files."""

    def step(self) -> dict[str, Any]:
        """Read the settings, as any trial does; a score, and the end."""
        Experiment.model_validate(self.config["experiment"])
        metrics = dict.fromkeys((metric.name for metric in METRICS), 0.5)
        told = {"unit": 1, "images": 1, "params_trained": 1, "training": {}, "seconds": 0.0}
        return {**told, "evaluated": True, "metrics": metrics, "best": metrics | {"unit": 1}, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """What the driver looks for."""
        for name in (BEST, LOG):
            (Path(checkpoint_dir) / name).write_text("empty")

    def cleanup(self) -> None:
        """Nothing to free."""


def settings(folder: Path, *, trials: int, budget: int) -> SweepSettings:
    stopping = EarlyStopping(kind=StoppingKind.NONE) if budget == 1 else EarlyStopping(grace=1)
    return SweepSettings(
        name=folder.name,
        storage=folder.parent,
        strategies=STRATEGIES,
        trials=trials,
        budget=budget,
        early_stopping=stopping,
    )


def ours(trials: int) -> float:
    """Seconds that one more trial takes in a sweep of empty ones, all but the collection of the winner's results."""
    with tempfile.TemporaryDirectory(prefix="hc-overhead-") as storage:
        folder = Path(storage) / "s"
        folder.mkdir()
        swept = settings(folder, trials=len(STRATEGIES) + trials, budget=1)
        with session(swept, folder, ROOM, stop_wanted=lambda: False) as ready:
            run_trials(folder, ROOM, searcher=ready.searcher, scheduler=ready.scheduler, callback=ready.recorder)
            ready.recorder.close("")
        ends = [event.at for event in read_journal(folder / JOURNAL) if isinstance(event, Ended)]
    return (ends[-1] - ends[-1 - trials]) / trials


def with_ray_train(folder: Path, trials: int) -> None:
    """Trials with an empty run of Ray Train inside each."""

    def train() -> None:
        ray.train.report({"map": 0.5})

    def trial(_: dict[str, Any]) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        config = RunConfig(storage_path=str(folder), name=f"{time.time_ns()}", callbacks=[TuneReportCallback()])
        scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
        TorchTrainer(train, scaling_config=scaling, run_config=config).fit()

    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.01}),
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder), name="tune", verbose=0),
    )
    tuner.fit()


def slope(run: Callable[[Path, int], None], few: int, many: int) -> float:
    """Seconds that one more trial takes."""
    took = []
    for trials in (few, many):
        with tempfile.TemporaryDirectory(prefix="hc-overhead-") as folder:
            started = time.perf_counter()
            run(Path(folder) / "s", trials)
            took.append(time.perf_counter() - started)
    return (took[1] - took[0]) / (many - few)


def compare(trials: int) -> None:
    """Print what one more empty trial costs with either runner."""
    os.environ.update(TUNE_ENVIRONMENT | {"RAY_TRAIN_V2_ENABLED": "1", "RAY_USAGE_STATS_ENABLED": "0"})
    with tempfile.TemporaryDirectory(prefix="hc-ray-") as folder, patch.object(tune_run, "HandTrial", EmptyTrial):
        ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder)
        own = median(ours(trials) for _ in range(SWEEPS))
        theirs = slope(with_ray_train, 1, 4)
        ray.shutdown()
    print(f"one more empty trial: {own:.3f} s in our runner")
    print(f"one more empty trial with a Ray Train run inside: {theirs:.2f} s, {theirs / own:.0f} times as long")


def simulated(trials: int) -> None:
    """Print the driver's processor time and memory along a sweep of ``trials`` simulated trials of up to nine units."""
    rows: list[float] = []
    started = time.process_time()

    def curve(experiment: Experiment, unit: int) -> Step:
        nonlocal started
        number = len(ready.records.all())
        if number >= EVERY * (len(rows) + 1):
            now = time.process_time()
            rows.append((now - started) / EVERY)
            started = now
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            took = f"{1000 * rows[-1]:6.1f} ms of the processor a trial"
            print(f"{number:6d} trials: {took}, peak of {peak_mib:.0f} MiB", flush=True)
        rng = np.random.default_rng((zlib.crc32(experiment.strategy.model_dump_json().encode()), unit))
        return Step(0.5 + 0.4 * (1 - 0.7**unit) * float(rng.random()))

    with tempfile.TemporaryDirectory(prefix="hc-overhead-") as folder:
        swept = settings(Path(folder), trials=trials, budget=9)
        clock = Clock()
        with session(swept, Path(folder), ROOM, stop_wanted=lambda: False, clock=clock) as ready:
            simulate(ready, Machine(curve, concurrent=4), clock)
            ready.recorder.close("")
    if len(rows) > 1:
        print(f"last {EVERY} trials against the first: {rows[-1] / rows[0]:.2f}x the time")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the runner costs beside the trials.")
    parser.add_argument("what", choices=("ray", "simulated"))
    parser.add_argument("--trials", type=int)
    asked = parser.parse_args()
    if asked.what == "ray":
        compare(asked.trials or 40)
    else:
        simulated(asked.trials or 5000)


if __name__ == "__main__":
    main()
