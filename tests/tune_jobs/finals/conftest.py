"""What a tiny sweep leaves behind, written by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from handclip_core.data.sources import DrawnData
from handclip_core.engine.phase import Optim
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import CONFIG
from handclip_core.strategies import AnyStrategy, Full, LinearProbe, ZeroShot
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings, dump_settings

HEADER = "rank,trial,strategy,map,cmc1,unit,seconds,params_trained,status\n"
Trials = Sequence[tuple[AnyStrategy, str]]
SweepFolder = Callable[..., Path]


def full(lr: float) -> Full:
    return Full(optim=Optim(lr=lr, batch_size=16))


TRIALS: Trials = (
    (ZeroShot(), "0.500000"),
    (LinearProbe(), "0.520000"),
    (full(1e-3), "0.700000"),
    (full(3e-4), "0.600000"),
)
"""Strategies of a sweep's trials, with their scores."""


def write_sweep(folder: Path, trials: Trials, *, backbone: BackboneSettings, data: DrawnData = TINY_DATA) -> None:
    """Write what a sweep with ``trials`` leaves of its settings, its leaderboard and its trials' settings."""
    rows = []
    for number, (strategy, score) in enumerate(trials):
        experiment = Experiment(strategy=strategy, data=data, backbone=backbone, budget=2)
        trial = folder / "trials" / f"{number:04d}-{strategy.name}"
        trial.mkdir(parents=True)
        (trial / CONFIG).write_text(experiment.model_dump_json())
        status = "complete" if score else "failed: DivergedError"
        rows.append(f"{'1' if score else ''},{number},{strategy.name},{score},{score},2,36.0,10,{status}\n")
    (folder / "leaderboard.csv").write_text(HEADER + "".join(rows))
    strategies = tuple(dict.fromkeys(strategy.name for strategy, _ in trials))
    settings = SweepSettings(name=folder.name, data=data, backbone=backbone, strategies=strategies)
    (folder / "sweep.yaml").write_text(dump_settings(settings))


@pytest.fixture
def sweep_folder(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> SweepFolder:
    """Write the folder of a sweep, and give it."""

    def write(trials: Trials = TRIALS) -> Path:
        folder = tmp_path / "runs" / "tiny"
        write_sweep(folder, trials, backbone=tiny_backbones["vit"])
        return folder

    return write
