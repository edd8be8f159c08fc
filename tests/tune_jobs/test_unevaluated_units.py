"""Units in which nothing can move retrieval: recorded, never scored, however a sweep searches, stops and dies."""

import random
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from handclip_core.runs.experiment import Experiment
from handclip_core.tasks.identities.task import Identities
from tests.tune_jobs.dying import Fuse, run_to_the_end
from tests.tune_jobs.simulated import ROOM, rising, run, settings, state_of
from tests.tune_jobs.simulation import Step
from tune_jobs.config.search import SamplerKind, possible_objectives
from tune_jobs.config.settings import EarlyStopping, StoppingKind, SweepSettings
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.events import Trained, Validated
from tune_jobs.state.journal import FILE, read_journal

PROMPTS = 2
"""Units of the first stage."""


def in_two_stages(experiment: Experiment, unit: int) -> Step:
    return replace(rising(experiment, unit), evaluated=unit > PROMPTS)


def assert_only_later_units_are_evaluated(folder: Path, *, name: str = "simulated") -> None:
    events = read_journal(folder / FILE)
    assert {event.unit for event in events if isinstance(event, Trained)} == set(range(1, PROMPTS + 1))
    validated = {event.unit for event in events if isinstance(event, Validated)}
    assert min(validated) == PROMPTS + 1
    for trial in optuna.load_study(study_name=name, storage=f"sqlite:///{folder / STUDY}").trials:
        assert trial.state.is_finished()
        assert set(trial.intermediate_values) <= validated
    assert {status for *_, status in state_of(folder)["ends"]} <= {"complete", "stopped"}


@pytest.mark.parametrize(("sampler", "kind"), zip(SamplerKind, StoppingKind, strict=True))
def test_every_sampler_and_every_kind_of_early_stopping_looks_at_evaluated_units_alone(
    tmp_path: Path, sampler: SamplerKind, kind: StoppingKind
) -> None:
    search = {"startup_trials": 4, "sampler": sampler}
    run(settings(tmp_path, search=search, early_stopping=EarlyStopping(kind=kind, grace=1)), in_two_stages)
    assert_only_later_units_are_evaluated(tmp_path / "simulated")


@pytest.mark.parametrize(
    "search",
    [
        {"replicas": 2},
        {"power_analysis": True},
        {"strategy_bandit": "equal"},
        {"sampler": "gp", "objectives": list(possible_objectives(Identities().metrics))},
    ],
    ids=("replicas", "power_analysis", "equal", "objectives"),
)
def test_so_do_sweeps_of_several_seeds_and_of_several_objectives(tmp_path: Path, search: dict[str, object]) -> None:
    ready = run(settings(tmp_path, search={"startup_trials": 4, **search}), in_two_stages)
    events = read_journal(tmp_path / "simulated" / FILE)
    assert all(event.unit <= PROMPTS for event in events if isinstance(event, Trained))
    assert all(event.unit > PROMPTS for event in events if isinstance(event, Validated))
    assert all(view.curve and view.status.over for view in ready.all_trials.all())


def smaller(storage: Path) -> SweepSettings:
    return settings(storage, strategies=("linear_probe", "adapters"), trials=5, budget=4)


def test_drivers_killed_anywhere_end_with_the_same_sweep(fuse: Fuse, tmp_path: Path) -> None:
    run(smaller(tmp_path / "whole"), in_two_stages)
    random_numbers = random.Random(0)
    lengths = iter(lambda: random_numbers.randint(1, 60), None)
    assert run_to_the_end(smaller(tmp_path), fuse, lengths, curve=in_two_stages) >= 5
    assert state_of(tmp_path / "simulated") == state_of(tmp_path / "whole" / "simulated")
    assert_only_later_units_are_evaluated(tmp_path / "simulated")


def test_a_worker_lost_before_any_evaluation_goes_on_from_the_unit_that_was_saved(tmp_path: Path) -> None:
    lost: set[int] = set()

    def losing(experiment: Experiment, unit: int) -> Step:
        if unit == PROMPTS and len(lost) < 1:
            lost.add(unit)
            raise OSError("Stale file handle")
        return in_two_stages(experiment, unit)

    ready = run(settings(tmp_path, retries=1), losing, trial_resources=replace(ROOM, concurrent=1))
    events = read_journal(tmp_path / "simulated" / FILE)
    units = [event.unit for event in events if isinstance(event, Trained | Validated) and event.trial == 0]
    assert units == sorted(set(units)), "no unit was trained twice"
    assert ready.all_trials.trials[0].attempts == 2
