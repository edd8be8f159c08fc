import itertools
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from tune_jobs.objectives import directions, dominates, objective_values
from tune_jobs.search_settings import Objective, SamplerKind, Search
from tune_jobs.study import Asked, SweepStudy

BOTH = (Objective.MAP, Objective.PARAMS_TRAINED)
STRATEGIES = ("zero_shot", "linear_probe", "adapters")


def new_study(
    storage: str | None = None, *, reopen: bool = False, sampler: SamplerKind = SamplerKind.TPE
) -> SweepStudy:
    search = Search(objectives=BOTH, sampler=sampler, startup_trials=4)
    return SweepStudy(storage, name="s", strategies=STRATEGIES, seed=0, search=search, reopen=reopen)


def ask(study: SweepStudy) -> Asked:
    asked = study.ask()
    assert asked is not None
    return asked


def test_each_objective_has_its_direction() -> None:
    assert [way.name for way in directions(tuple(Objective))] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE", "MAXIMIZE"]


def test_dominance_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    rows = [dict(zip(BOTH, map(float, rng.integers(0, 4, 2)), strict=True)) for _ in range(20)]
    for a, b in itertools.product(rows, rows):
        no_worse = a[Objective.MAP] >= b[Objective.MAP] and a[Objective.PARAMS_TRAINED] <= b[Objective.PARAMS_TRAINED]
        assert dominates(a, b) is (no_worse and a != b)


def test_the_front_is_optunas_and_holds_no_stopped_or_failed_trial() -> None:
    study = new_study(sampler=SamplerKind.RANDOM)
    rng = np.random.default_rng(1)
    for number in range(25):
        asked = ask(study)
        study.report(asked.number, unit=1, value=2.0)
        if number % 5 == 1:
            study.prune(asked.number)
        elif number % 5 == 2:
            study.fail(asked.number, reason="lost")
        else:
            measures = {"params_trained": float(rng.integers(1, 9)), "seconds": 1.0}
            study.complete(asked.number, value=float(rng.integers(0, 9)) / 10, measures=measures)
    front = study.front()
    assert {row.number for row in front} == {trial.number for trial in study.study.best_trials}
    assert [row.values[Objective.MAP] for row in front] == sorted(
        (r.values[Objective.MAP] for r in front), reverse=True
    )
    assert all(row.strategy == study.trials()[row.number].user_attrs["strategy"] for row in front)


def test_with_one_objective_the_front_is_the_best_trials() -> None:
    study = SweepStudy(None, name="s", strategies=STRATEGIES, seed=0, search=Search())
    for value in (0.3, 0.7, 0.7, 0.5):
        study.complete(ask(study).number, value=value)
    assert [row.number for row in study.front()] == [1, 2]


def test_the_truth_of_several_objectives_is_kept_in_attributes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = new_study(url)
    stopped, done = ask(study), ask(study)
    for unit, value in ((1, 0.3), (2, 0.4)):
        study.report(stopped.number, unit=unit, value=value)
    study.prune(stopped.number)
    study.report(done.number, unit=1, value=0.1)

    again = new_study(url, reopen=True)
    assert again.adopt(done.number) == done
    again.report(done.number, unit=1, value=0.9)
    again.report(done.number, unit=2, value=0.2)
    again.complete(done.number, value=0.2, measures={"params_trained": 10})
    stored = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.state for trial in stored] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.user_attrs["curve"] for trial in stored] == [{"1": 0.3, "2": 0.4}, {"1": 0.1, "2": 0.2}]
    assert stored[1].values == [0.2, 10.0]


@pytest.mark.parametrize("sampler", [SamplerKind.TPE, SamplerKind.GP])
def test_the_search_goes_on_past_stopped_trials(sampler: SamplerKind) -> None:
    study = new_study(sampler=sampler)
    for number in range(8):
        asked = ask(study)
        if number % 3 == 2:
            study.prune(asked.number)
        else:
            study.complete(asked.number, value=number / 10, measures={"params_trained": 10 - number})
    assert ask(study).number == 8


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(ValueError, match="params_trained was not measured"):
        objective_values(BOTH, score=0.5, measures={"seconds": 3.0})
    with pytest.raises(ValueError, match="map was not measured"):
        objective_values(BOTH, score=float("nan"), measures={"params_trained": 3})
    assert objective_values(BOTH, score=0.5, measures={"params_trained": 3, "seconds": 1.0}) == [0.5, 3.0]
