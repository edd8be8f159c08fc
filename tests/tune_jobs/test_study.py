from pathlib import Path

import optuna
from optuna.trial import TrialState

from search_spaces.spaces import SPACES, default_of
from tune_jobs.search_settings import Search
from tune_jobs.study import Asked, SweepStudy

ALL = tuple(SPACES)


def new_study(*, strategies: tuple[str, ...] = ALL, storage: str | None = None, startup: int = 10) -> SweepStudy:
    return SweepStudy(storage, name="sweep", strategies=strategies, seed=3, search=Search(startup_trials=startup))


def ask(study: SweepStudy) -> Asked:
    asked = study.ask()
    assert asked is not None
    return asked


def finish(study: SweepStudy, asked: Asked, value: float) -> None:
    study.report(asked.number, unit=1, value=value)
    study.complete(asked.number, value=value)


def test_every_default_is_tried_first_in_order_and_only_once() -> None:
    study = new_study()
    first = [ask(study) for _ in ALL]
    assert [asked.strategy for asked in first] == [default_of(name) for name in ALL]
    later = [ask(study) for _ in range(20)]
    assert all(asked.strategy != default_of(asked.strategy.name) for asked in later)
    assert [asked.number for asked in (*first, *later)] == list(range(len(ALL) + 20))


def test_the_baseline_is_never_suggested_again() -> None:
    study = new_study()
    names = [ask(study).strategy.name for _ in range(80)]
    assert names.count("zero_shot") == 1
    assert set(names) == set(ALL)


def test_a_sweep_of_the_baseline_alone_ends_after_it() -> None:
    study = new_study(strategies=("zero_shot",))
    finish(study, ask(study), 0.5)
    assert study.ask() is None
    assert study.study.best_value == 0.5


def test_draws_are_named_by_the_fields_path_and_reach_the_settings() -> None:
    study = new_study(strategies=("full",))
    ask(study)
    asked = ask(study)
    settings = asked.strategy.model_dump(mode="json")
    assert asked.params["strategy/optim/lr"] == settings["optim"]["lr"]
    assert asked.params["strategy/augment/flip"] == settings["augment"]["flip"]
    assert all(name.startswith("strategy/") for name in asked.params)


def test_the_study_is_told_the_truth(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = new_study(storage=storage)
    complete, pruned, failed, running = (ask(study) for _ in range(4))
    for unit, value in enumerate((0.2, 0.6, 0.5), start=1):
        study.report(complete.number, unit=unit, value=value)
    study.complete(complete.number, value=0.6)
    study.report(pruned.number, unit=1, value=0.9)
    study.note(pruned.number, outcome={"unit": 1})
    study.prune(pruned.number)
    study.report(failed.number, unit=1, value=0.8)
    study.fail(failed.number, reason="RuntimeError: out of memory")

    stored = optuna.load_study(study_name="sweep", storage=storage)
    states = [trial.state for trial in stored.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert stored.trials[0].intermediate_values == {1: 0.2, 2: 0.6, 3: 0.5}
    assert stored.trials[1].intermediate_values == {1: 0.9}
    assert stored.trials[1].user_attrs["outcome"] == {"unit": 1}
    assert stored.trials[2].user_attrs["reason"] == "RuntimeError: out of memory"
    assert [trial.user_attrs["strategy"] for trial in stored.trials] == list(ALL[:4])
    assert (stored.best_trial.number, stored.best_value) == (0, 0.6)
    assert running.number == 3


def test_names_in_the_database_keep_strategies_apart() -> None:
    study = new_study(strategies=("full", "adapters"))
    for _ in range(2):
        ask(study)
    names = [set(trial.params) for trial in study.study.trials]
    assert names[0] & names[1] == {"strategy"}
    assert "full/optim/lr" in names[0]
    assert "adapters/optim/lr" in names[1]


def suggestions(seed_value: float) -> list[dict[str, object]]:
    study = new_study(startup=6)
    drawn: list[dict[str, object]] = []
    for _ in range(12):
        asked = ask(study)
        drawn.append(dict(asked.params))
        finish(study, asked, seed_value + asked.number / 100)
    return drawn


def test_one_trial_after_another_the_search_repeats_itself_by_its_seed() -> None:
    assert suggestions(0.1) == suggestions(0.1)


def test_the_search_learns_which_strategy_pays() -> None:
    study = new_study(startup=8)
    for _ in range(60):
        asked = ask(study)
        finish(study, asked, 0.9 if asked.strategy.name == "adapters" else 0.1)
    late = [trial.user_attrs["strategy"] for trial in study.study.trials[30:]]
    assert late.count("adapters") > len(late) / 2
