"""What a tiny sweep leaves behind, its journal made up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from handclip_core.data.sources import DrawnData
from handclip_core.engine.phase import Optim
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import STATE_VARIABLE
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import AnyStrategy, Full, LinearProbe, ZeroShot
from tests.conftest import TINY_DATA
from tests.tune_jobs.finals.entries import entrant, facts
from tests.tune_jobs.made_up import opened, validated
from tune_jobs.config.settings import SweepSettings, dump_settings
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.ranking import Cost, rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.state.events import Begun, Closed, Ended, Event, Started, Trained
from tune_jobs.state.journal import FILE, Journal
from tune_jobs.state.sweep_state import SweepState

AT, SECONDS = 1e9, 36.0
Trials = Sequence[tuple[AnyStrategy, float | None]]
SweepFolder = Callable[..., Path]


def full(lr: float) -> Full:
    return Full(optim=Optim(lr=lr, batch_size=16))


TRIALS: Trials = ((ZeroShot(), 0.5), (LinearProbe(), 0.52), (full(1e-3), 0.7), (full(3e-4), 0.6))
"""Strategies of a sweep's trials, with their scores."""


def write_sweep(
    folder: Path,
    trials: Trials,
    *,
    backbone: BackboneSettings | Sequence[BackboneSettings],
    data: DrawnData = TINY_DATA,
    ended: bool = True,
    more: Sequence[Event] = (),
    **changed: Any,
) -> None:
    """Write settings and journal of a sweep with ``trials``; those without a score have failed.

    Of several backbones each trial is on the next.

    One that was not ``ended`` was interrupted in the last unit of each. ``more`` happens at its end. ``changed`` are
    settings.
    """
    folder.mkdir(parents=True)
    strategies = tuple(dict.fromkeys(strategy.name for strategy, _ in trials))
    values: dict[str, Any] = {"name": folder.name, "data": data, "backbone": backbone, "budget": 2} | changed
    settings = SweepSettings(**values, strategies=strategies)
    (folder / "sweep.yaml").write_text(dump_settings(settings))
    with Journal(folder / FILE) as journal:
        state = SweepState(journal, [])
        state.happened(opened(AT, settings=settings.model_dump(mode="json")))
        for number, (strategy, score) in enumerate(trials):
            tower = settings.backbones[number % len(settings.backbones)]
            experiment = Experiment(strategy=strategy, data=data, backbone=tower, budget=settings.budget)
            for event in of_a_trial(number, experiment, score, ended=ended):
                state.happened(event)
        for event in (*more, Closed(at=AT, reason="" if ended else "interrupted")):
            state.happened(event)


def of_a_trial(number: int, experiment: Experiment, score: float | None, *, ended: bool) -> list[Event]:
    """What happens to a trial, of which its last unit is known; without a ``score`` it fails after it."""
    begun: list[Event] = [
        Begun(at=AT, trial=number, params={}, experiment=experiment),
        Started(at=AT, trial=number),
    ]
    seen: dict[str, Any] = {"at": AT, "seconds": SECONDS}
    if score is None:
        trained = Trained(trial=number, unit=1, images=20, params_trained=10, training={}, **seen)
        return [*begun, trained, Ended(at=AT, trial=number, status="failed", reason="DivergedError")]
    unit = validated(number, experiment.budget, score, done=ended, **seen)
    return [*begun, unit, *([Ended(at=AT, trial=number, status="complete")] if ended else [])]


@pytest.fixture
def sweep_folder(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> SweepFolder:
    """Write the folder of a sweep, and give it."""

    def write(trials: Trials = TRIALS, *, ended: bool = True, more: Sequence[Event] = ()) -> Path:
        folder = tmp_path / "runs" / "tiny"
        write_sweep(folder, trials, backbone=tiny_backbones["vit"], ended=ended, more=more)
        return folder

    return write


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accesses of other tests are none of ours."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))


@pytest.fixture
def report(sweep_folder: SweepFolder) -> FinalsReport:
    """Finals of the tiny sweep, made up: one configuration past its best, one run that failed."""
    standings = rank(
        [
            entrant("zero_shot", 0.9, trial=0, swept=0.5),
            entrant("full", 0.3, trial=2, swept=0.95, known=facts(peak=0.99, peak_unit=3)),
            entrant("adapters", 0.305),
        ]
    )
    past = read_sweep(sweep_folder())
    failures = {"full, trial 3, seed 1001": "RuntimeError: <b>a | b</b>"}
    return FinalsReport(past, (1001, 1002, 1003), standings, Cost(False, 1.0), failures, None)
