import itertools
from pathlib import Path

import numpy as np
import optuna
import pytest

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.config.search import Search
from tune_jobs.reporting.study import StudyExport
from tune_jobs.state.objectives import dominates, front_csv, front_lines, objective_values, pareto_front
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

BOTH = ("map", "params_trained")


def test_dominance_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    rows = [dict(zip(BOTH, map(float, rng.integers(0, 4, 2)), strict=True)) for _ in range(20)]
    for a, b in itertools.product(rows, rows):
        no_worse = a["map"] >= b["map"] and a["params_trained"] <= b["params_trained"]
        assert dominates(a, b) is (no_worse and a != b)


def swept(*values: tuple[float, int], status: Status = Status.COMPLETE) -> Trials:
    experiment = Experiment(strategy=ZeroShot())
    trials = [
        TrialView(
            n,
            "zero_shot",
            {},
            experiment,
            status=status,
            metrics={"map": score, "retention": 1 - score},
            params_trained=params,
        )
        for n, (score, params) in enumerate(values)
    ]
    return Trials({trial.number: trial for trial in trials})


def test_the_front_is_optunas_and_holds_no_stopped_or_failed_trial(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    all_trials = swept(*((float(rng.integers(0, 9)) / 10, int(rng.integers(1, 9))) for _ in range(25)))
    for view in all_trials.all():
        view.status = {1: Status.STOPPED, 2: Status.FAILED}.get(view.number % 5, Status.COMPLETE)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    space = Search().space(("zero_shot",))
    StudyExport(url, name="s", space=space, objectives=BOTH, artifacts=tmp_path).rebuild(all_trials)
    front = pareto_front(all_trials, BOTH)
    assert len(front) > 1
    study = optuna.load_study(study_name="s", storage=url)
    assert {row.number for row in front} == {trial.number for trial in study.best_trials}
    assert [row.score for row in front] == sorted((row.score for row in front), reverse=True)


def test_the_front_is_told_with_every_objective() -> None:
    objectives = ("map", "retention")
    front = pareto_front(swept((0.25, 1), (0.75, 1), (0.75, 2)), objectives)
    assert (
        front_csv(front, objectives)
        == "trial,strategy,map,retention\n1,zero_shot,0.75,0.25\n2,zero_shot,0.75,0.25\n0,zero_shot,0.25,0.75\n"
    )
    assert front_lines(front, objectives) == [
        "Pareto front: 3 finished trials that no other one beats in map and retention",
        "  trial 1 zero_shot: map 0.75, retention 0.25",
        "  trial 2 zero_shot: map 0.75, retention 0.25",
        "  trial 0 zero_shot: map 0.25, retention 0.75",
    ]
    assert front_lines([], objectives) == []


def test_counts_of_parameters_are_written_whole() -> None:
    front = pareto_front(swept((1 / 3, 3_812_276)), BOTH)
    assert front_csv(front, BOTH).splitlines()[1] == "0,zero_shot,0.333333,3812276"
    assert front_lines(front, BOTH) == [
        "Pareto front: 1 finished trial that no other one beats in map and params_trained",
        "  trial 0 zero_shot: map 0.333333, params_trained 3812276",
    ]


def measured(*, status: Status = Status.COMPLETE, **metrics: float) -> TrialView:
    return TrialView(
        0,
        "zero_shot",
        {},
        Experiment(strategy=ZeroShot()),
        status=status,
        metrics=metrics,
        params_trained=3,
        seconds=6.0,
    )


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(ValueError, match="retention was not measured"):
        objective_values(("map", "retention"), measured(map=0.5))
    with pytest.raises(ValueError, match="map was not measured"):
        objective_values(BOTH, measured(map=float("nan")))


def test_values_are_those_of_the_best_weights_and_what_they_cost_a_seed() -> None:
    view = measured(map=0.5, cmc1=0.75)
    assert objective_values(("map", "cmc1", "params_trained", "seconds"), view) == (0.5, 0.75, 3.0, 6.0)
    view.seeds = [{"map": 0.4}, {"map": 0.6}, {"map": 0.5}]
    assert objective_values(("map", "seconds"), view) == (0.5, 2.0)
