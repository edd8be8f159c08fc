"""Trials of several seeds, and the calibration that they give."""

import random
import zlib
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from tests.tune_jobs.dying import Fuse, run_to_the_end
from tests.tune_jobs.made_up import metrics, validated
from tests.tune_jobs.simulated import ROOM, SPEED, begun, run, settings, state_of
from tests.tune_jobs.simulation import Step
from tune_jobs.config.settings import EarlyStopping, StoppingKind, SweepSettings
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.events import Begun, Saved, SeedEnded, Started
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status
from tune_jobs.state.trials import Trials

NO_STOPPING = EarlyStopping(kind=StoppingKind.NONE)


def noisy(experiment: Experiment, unit: int) -> Step:
    """Rises as others do; the height differs from seed to seed by up to 0.1."""
    height = 0.3 + 0.5 * (zlib.crc32(experiment.strategy.model_dump_json().encode()) % 1000) / 1000
    height += random.Random(experiment.seed).random() / 10
    return Step(height * unit / (unit + 3.0 / SPEED[experiment.strategy.name]), seconds=30.0)


def averaged(storage: Path, **changed: Any) -> SweepSettings:
    values = {"strategies": ("linear_probe", "adapters"), "trials": 5, "budget": 3}
    search = {"startup_trials": 4, "replicas": 3, **changed.pop("search", {})}
    return settings(storage, search=search, **values | changed)


def test_a_trials_score_is_the_mean_over_its_seeds_and_its_weights_are_the_firsts(tmp_path: Path) -> None:
    ready = run(averaged(tmp_path, early_stopping=NO_STOPPING, keep_checkpoints=9), noisy)
    for view in ready.all_trials.all():
        one = [max(noisy(seeded(view.experiment, seed), unit).score for unit in (1, 2, 3)) for seed in range(3)]
        assert [seed["map"] for seed in view.seeds] == one
        assert (view.score, view.sd) == (fmean(one), stdev(one))
        assert (view.unit, view.saved_unit, view.status) == (3, 3, Status.COMPLETE)
        assert view.curve == {unit: noisy(view.experiment, unit).score for unit in (1, 2, 3)}
        states = list((tmp_path / "simulated" / "trials" / view.name).glob("checkpoint_*"))
        assert [state.relative_to(tmp_path / "simulated").as_posix() for state in states] == [view.checkpoint]
        assert view.checkpoint is not None
        assert view.checkpoint.endswith("checkpoint_000002"), "the first attempt's last state"
    for trial in stored(tmp_path):
        view = ready.all_trials.trials[trial.number]
        assert (trial.value, trial.intermediate_values) == (view.score, view.curve)
        assert trial.user_attrs["seeds"] == [seed["map"] for seed in view.seeds]


def stored(storage: Path) -> list[FrozenTrial]:
    """The trials of the sweep's study."""
    return optuna.load_study(study_name="simulated", storage=f"sqlite:///{storage / 'simulated' / STUDY}").get_trials()


def seeded(experiment: Experiment, seed: int) -> Experiment:
    return experiment.model_copy(update={"seed": experiment.seed + seed})


def test_what_the_first_seed_loses_gets_no_other(tmp_path: Path) -> None:
    ready = run(averaged(tmp_path, trials=9), noisy)
    statuses = {view.number: view.status for view in ready.all_trials.all()}
    assert set(statuses.values()) == {Status.COMPLETE, Status.STOPPED}
    starts = [event.trial for event in read_journal(tmp_path / "simulated" / FILE) if isinstance(event, Started)]
    assert {number: starts.count(number) for number in statuses} == {
        number: 3 if status is Status.COMPLETE else 1 for number, status in statuses.items()
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_driver_that_dies_between_seeds_is_replaced_without_a_trace(fuse: Fuse, tmp_path: Path, seed: int) -> None:
    run(averaged(tmp_path / "whole"), noisy)
    numbers = random.Random(seed)
    lengths = iter(lambda: numbers.randint(1, 90), None)
    assert run_to_the_end(averaged(tmp_path), fuse, lengths, curve=noisy) >= 4
    assert state_of(tmp_path / "simulated") == state_of(tmp_path / "whole" / "simulated")
    assert begun(tmp_path / "simulated") == list(range(5))


def test_a_later_seed_that_fails_for_good_fails_the_trial(tmp_path: Path) -> None:
    def unlucky(experiment: Experiment, unit: int) -> Step:
        if experiment.seed == 1 and experiment.strategy.name == "adapters":
            raise RuntimeError("lost")
        return noisy(experiment, unit)

    ready = run(averaged(tmp_path, early_stopping=NO_STOPPING, retries=1), unlucky)
    by_strategy = {view.strategy: view.status for view in ready.all_trials.all()}
    assert by_strategy == {"linear_probe": Status.COMPLETE, "adapters": Status.FAILED}


def test_a_seed_that_ends_without_a_number_fails_the_trial(tmp_path: Path) -> None:
    def broken(experiment: Experiment, unit: int) -> Step:
        return replace(noisy(experiment, unit), score=float("nan") if experiment.seed == 2 else 0.5)

    ready = run(averaged(tmp_path, trials=2, early_stopping=NO_STOPPING), broken)
    assert {view.reason for view in ready.all_trials.all()} == {"validation mAP is not a number"}


def test_the_baseline_of_a_calibration_gets_five_seeds_and_is_never_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def first_is_worst(experiment: Experiment, unit: int) -> Step:
        del unit
        default = experiment.strategy.optim.lr == 1e-3  # type: ignore[union-attr]
        return Step(0.2 + experiment.seed / 100 if default else 0.5)

    search = {"replicas": 1, "power_analysis": True}
    swept = averaged(tmp_path, trials=6, search=search, early_stopping=EarlyStopping(kind=StoppingKind.ASHA, grace=1))
    ready = run(swept, first_is_worst, trial_resources=replace(ROOM, concurrent=3))
    baseline, *others = ready.all_trials.all()
    assert [seed["map"] for seed in baseline.seeds] == pytest.approx([0.2, 0.21, 0.22, 0.23, 0.24])
    assert baseline.status is Status.COMPLETE
    assert all(view.seeds == [] for view in others)
    assert "linear_probe on 5 seeds: validation mAP 0.2200, sd 0.0158" in capsys.readouterr().out


def test_the_strategy_without_training_neither_repeats_nor_calibrates(tmp_path: Path) -> None:
    def flat(experiment: Experiment, unit: int) -> Step:
        return Step(0.3 + experiment.seed / 100 + unit / 1000)

    swept = averaged(
        tmp_path, strategies=("zero_shot", "adapters"), trials=2, search={"replicas": 2, "power_analysis": True}
    )
    ready = run(swept, flat)
    assert [len(view.seeds) for view in ready.all_trials.all()] == [0, 5]


def test_a_trial_between_seeds_is_no_winner_and_its_first_state_counts() -> None:
    all_trials = Trials()
    experiment = Experiment(strategy=Full())
    for event in (
        Begun(at=0, trial=0, params={}, experiment=experiment),
        Started(at=0, trial=0),
        validated(0, 1, 0.5, done=True),
        Saved(at=0, trial=0, unit=1, checkpoint="a", size=7),
        SeedEnded(at=0, trial=0, metrics=metrics(0.5)),
    ):
        all_trials.apply(event)
    view = all_trials.trials[0]
    assert (view.checkpoint, view.held_bytes, view.replica) == (None, 7, 1)
    assert isnan(view.score_of(view.present))
    assert all_trials.winner is None
    assert all_trials.holding() == [view]
