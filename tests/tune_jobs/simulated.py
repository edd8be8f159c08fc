"""Sweeps on made-up learning curves, and what two drivers' work on one must agree on."""

import csv
import zlib
from pathlib import Path
from typing import Any

import optuna

from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import write_text
from tests.tune_jobs.simulation import Clock, Curve, FixedNodes, Machine, Step, simulate
from tune_jobs.config.settings import SETTINGS, EarlyStopping, SweepSettings, dump_settings
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.lifecycle.build import SweepRun, build
from tune_jobs.lifecycle.folders import is_sweep
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state import journal
from tune_jobs.state.events import Begun, Ended
from tune_jobs.state.journal import read_journal
from tune_jobs.state.local_copy import download
from tune_jobs.state.trials import folded
from tune_jobs.storage.location import BucketLocation, StorageLocation, files_below, folder_of

ROOM = TrialResources(device="cpu", cpus=1, gpus=1.0, concurrent=1, num_nodes=1)
SPEED = {"linear_probe": 2.0, "full": 0.5, "adapters": 1.0}


def rising(experiment: Experiment, unit: int) -> Step:
    """A curve that rises towards a height between 0.3 and 0.9, which the drawn settings decide."""
    strategy = experiment.strategy
    height = 0.3 + 0.6 * (zlib.crc32(strategy.model_dump_json().encode()) % 1000) / 1000
    return Step(height * unit / (unit + 3.0 / SPEED[strategy.name]), seconds=30.0 + unit)


def settings(storage: StorageLocation, **changed: Any) -> SweepSettings:
    """A sweep that ends within a second."""
    values: dict[str, Any] = {
        "name": "simulated",
        "strategies": ("linear_probe", "full", "adapters"),
        "trials": 9,
        "budget": 5,
        "early_stopping": EarlyStopping(grace=1),
        "keep_checkpoints": 2,
        "search": {"startup_trials": 4},
        "storage": storage,
    }
    return SweepSettings(**values | changed)


def run(
    swept: SweepSettings,
    curve: Curve = rising,
    *,
    clock: Clock | None = None,
    trial_resources: TrialResources = ROOM,
    save_every: int = 1,
) -> SweepRun:
    """Run a sweep to its end in its folder, or take it up there; returns what the driver knew at the end."""
    clock = clock or Clock()
    where = swept.storage / swept.name
    folder = folder_of(where)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(where, BucketLocation) and is_sweep(where):
        download(where)
    write_text(folder / SETTINGS, dump_settings(swept))
    with build(
        swept, folder, trial_resources, stop_requested=lambda: False, clock=clock, nodes=FixedNodes(trial_resources)
    ) as ready:
        simulate(ready, Machine(curve, concurrent=trial_resources.concurrent, save_every=save_every), clock)
        ready.callback.close("")
    return ready


def state_of(where: StorageLocation) -> dict[str, Any]:
    """All of a sweep that must not depend on how often its driver died: trials, rungs, study, files, leaderboard."""
    folder, files = folder_of(where), [path.split("/") for path in files_below(where)]
    events = read_journal(folder / journal.FILE)
    all_trials = folded(events)
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / STUDY}")
    with (folder / "leaderboard.csv").open() as file:
        board = [{k: v for k, v in row.items() if k not in ("seconds", "attempts")} for row in csv.DictReader(file)]
    return {
        "trials": [
            (
                r.number,
                r.status,
                r.unit,
                r.score,
                r.best_unit,
                r.curve,
                r.params,
                r.experiment,
                r.saved_unit,
                r.failures,
            )
            for r in all_trials.all()
        ],
        "study": [
            (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs["strategy"])
            for t in study.trials
        ],
        "weights": sorted(path[1] for path in files if path[-1] == "handclip_best.pth"),
        "logs": sorted(path[1] for path in files if path[-1] == "training_log.csv"),
        "leaderboard": board,
        "ends": [(e.trial, e.status) for e in events if isinstance(e, Ended)],
    }


def begun(folder: Path) -> list[int]:
    """The trials in the order of beginning, as often as they were begun."""
    return [event.trial for event in read_journal(folder / journal.FILE) if isinstance(event, Begun)]
