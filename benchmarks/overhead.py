"""What the runner itself costs: seconds a trial for trials that do nothing, and whether thousands of them stay cheap.

``ray``: empty trials through the whole runner (journal, study, event logs, leaderboard, folders), one at a time, of one
worker in a process that stays warm and of two workers in a run of Ray Train each, on one cluster. What a sweep costs
once does not count: they are timed from the end of the first trials.
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
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import ray.train

from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, LOG
from tests.tune_jobs.simulation import Clock, FixedNodes, Machine, Step, result, simulate
from tune_jobs.config.settings import EarlyStopping, StoppingKind, SweepSettings
from tune_jobs.execution import tune_run
from tune_jobs.execution.cluster import TUNE_ENVIRONMENT, TrialResources
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.train_fn import GROUP, NODE, train_trial
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.execution.tune_run import run_trials
from tune_jobs.lifecycle.build import build
from tune_jobs.state.events import Ended
from tune_jobs.state.journal import FILE as JOURNAL
from tune_jobs.state.journal import read_journal

STRATEGIES = ("linear_probe", "full", "adapters", "lora")
ROOM = TrialResources(device="cpu", cpus=1, gpus=0.0, concurrent=1, num_nodes=1)
SWEEPS, OF_TWO = 3, 3
EVERY = 500
"""Trials between two lines of the simulated sweep."""


class EmptyTrial(HandTrial):
    """A trial that reports one score and saves two small files."""

    def step(self) -> dict[str, Any]:
        """Read the settings, as any trial does; a score, and the end."""
        Experiment.model_validate(self.config["experiment"])
        return result(1, 0.5, seconds=0.0, done=True)

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


def empty_train_fn(_: dict[str, Any]) -> None:
    """What a worker of a trial of two does: one report, of the first with two small files."""
    told = result(1, 0.5, seconds=0.0) | {NODE: ray.get_runtime_context().get_node_id(), GROUP: ""}
    del told["done"]
    with tempfile.TemporaryDirectory() as folder:
        for name in (BEST, LOG):
            (Path(folder) / name).write_text("empty")
        first = ray.train.get_context().get_world_rank() == 0
        checkpoint = ray.train.Checkpoint.from_directory(folder) if first else None
        ray.train.report(told, checkpoint=checkpoint, checkpoint_dir_name="checkpoint_000000001")


def empty_trial_of_two(config: dict[str, Any]) -> None:
    """As any trial of several workers, but for what they do."""
    with patch("tune_jobs.execution.train_fn.train_fn", empty_train_fn):
        train_trial(config)


def one_more(trials: int, trial_resources: TrialResources) -> float:
    """Seconds that one more trial takes in a sweep of empty ones, all but the collection of the winner's results."""
    with tempfile.TemporaryDirectory(prefix="hc-overhead-") as storage:
        folder = Path(storage) / "s"
        folder.mkdir()
        first = len(STRATEGIES) if trial_resources.workers == 1 else 1
        swept = settings(folder, trials=first + trials, budget=1)
        resources = swept.resources.model_copy(update={"workers": trial_resources.workers})
        swept = swept.model_copy(update={"resources": resources})
        with build(
            swept, folder, trial_resources, stop_requested=lambda: False, nodes=RayNodes(trial_resources)
        ) as ready:
            run_trials(
                folder, trial_resources, searcher=ready.searcher, scheduler=ready.scheduler, callback=ready.callback
            )
            ready.callback.close("")
        ends = [event for event in read_journal(folder / JOURNAL) if isinstance(event, Ended)]
        assert all(event.status == "complete" for event in ends), ends
    return (ends[-1].at - ends[-1 - trials].at) / trials


def compare(trials: int) -> None:
    """Print what one more empty trial costs, of one worker and of two."""
    os.environ.update(TUNE_ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"})
    with (
        tempfile.TemporaryDirectory(prefix="hc-ray-") as folder,
        patch.object(tune_run, "HandTrial", EmptyTrial),
        patch.object(tune_run, "train_trial", empty_trial_of_two),
    ):
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=folder, **quiet)
        one = median(one_more(trials, ROOM) for _ in range(SWEEPS))
        print(f"one more empty trial of one worker: {one:.3f} s", flush=True)
        two = one_more(OF_TWO, replace(ROOM, workers=2))
        ray.shutdown()
    print(f"one more empty trial of two workers: {two:.2f} s, {two / one:.0f} times as long")


def simulated(trials: int) -> None:
    """Print the driver's processor time and memory along a sweep of ``trials`` simulated trials of up to nine units."""
    rows: list[float] = []
    started = time.process_time()

    def curve(experiment: Experiment, unit: int) -> Step:
        nonlocal started
        number = len(ready.all_trials.all())
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
        with build(
            swept, Path(folder), ROOM, stop_requested=lambda: False, nodes=FixedNodes(ROOM), clock=clock
        ) as ready:
            simulate(ready, Machine(curve, concurrent=4), clock)
            ready.callback.close("")
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
