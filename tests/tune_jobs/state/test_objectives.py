import itertools
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tune_jobs.search.study import Asked, SweepStudy

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.config.search import Objective, SamplerKind, Search
from tune_jobs.state.objectives import (
    directions,
    dominates,
    front_csv,
    front_lines,
    measures_of,
    objective_values,
    pareto_front,
)
from tune_jobs.state.trials import Records, Status, TrialRecord

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


def swept(*values: tuple[float, int], status: Status = Status.COMPLETE) -> Records:
    experiment = Experiment(strategy=ZeroShot())
    trials = [
        TrialRecord(
            n, "zero_shot", {}, experiment, status=status, map=score, params_trained=params, retention=1 - score
        )
        for n, (score, params) in enumerate(values)
    ]
    return Records({trial.number: trial for trial in trials})


def test_the_front_is_optunas_and_holds_no_stopped_or_failed_trial() -> None:
    study = new_study(sampler=SamplerKind.RANDOM)
    rng = np.random.default_rng(1)
    records = swept(*((float(rng.integers(0, 9)) / 10, int(rng.integers(1, 9))) for _ in range(25)))
    for record in records.all():
        asked = ask(study)
        study.report(asked.number, unit=1, value=2.0)
        if record.number % 5 == 1:
            record.status = Status.STOPPED
            study.prune(asked.number)
        elif record.number % 5 == 2:
            record.status = Status.FAILED
            study.fail(asked.number, reason="lost")
        else:
            study.complete(asked.number, value=record.map, measures=measures_of(record))
    front = pareto_front(records, BOTH)
    assert len(front) > 1
    assert {row.number for row in front} == {trial.number for trial in study.study.best_trials}
    assert [row.values[Objective.MAP] for row in front] == sorted(
        (r.values[Objective.MAP] for r in front), reverse=True
    )


def test_the_front_is_told_with_every_objective() -> None:
    objectives = (Objective.MAP, Objective.RETENTION)
    front = pareto_front(swept((0.25, 1), (0.75, 1), (0.75, 2)), objectives)
    assert (
        front_csv(front)
        == "trial,strategy,map,retention\n1,zero_shot,0.75,0.25\n2,zero_shot,0.75,0.25\n0,zero_shot,0.25,0.75\n"
    )
    assert front_lines(front) == [
        "Pareto front: 3 finished trials that no other one beats in map and retention",
        "  trial 1 zero_shot: map 0.75, retention 0.25",
        "  trial 2 zero_shot: map 0.75, retention 0.25",
        "  trial 0 zero_shot: map 0.25, retention 0.75",
    ]
    assert front_lines([]) == []


def test_counts_of_parameters_are_written_whole() -> None:
    front = pareto_front(swept((1 / 3, 3_812_276)), BOTH)
    assert front_csv(front).splitlines()[1] == "0,zero_shot,0.333333,3812276"
    assert front_lines(front) == [
        "Pareto front: 1 finished trial that no other one beats in map and params_trained",
        "  trial 0 zero_shot: map 0.333333, params_trained 3812276",
    ]


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
