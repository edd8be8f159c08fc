from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from handclip_core.errors import InputError
from search_spaces.spaces import SPACES, default_of
from tune_jobs.config.search import Allocation, SamplerKind, Search
from tune_jobs.search.study import Asked, SweepStudy

ALL = tuple(SPACES)
PAIR = ("full", "adapters")


def new_study(
    *, strategies: tuple[str, ...] = ALL, storage: str | None = None, reopen: bool = False, search: Search | None = None
) -> SweepStudy:
    return SweepStudy(
        storage, name="sweep", strategies=strategies, seed=3, search=search or Search(startup_trials=10), reopen=reopen
    )


def ask(study: SweepStudy) -> Asked:
    asked = study.ask()
    assert asked is not None
    return asked


def finish(study: SweepStudy, asked: Asked, value: float) -> None:
    study.report(asked.number, unit=1, value=value)
    study.complete(asked.number, value=value)


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def test_every_default_is_tried_first_in_order_and_only_once() -> None:
    study = new_study()
    first = [ask(study) for _ in ALL]
    assert [asked.strategy for asked in first] == [default_of(name) for name in ALL]
    later = [ask(study) for _ in range(20)]
    assert all(asked.strategy != default_of(asked.strategy.name) for asked in later)
    assert [asked.number for asked in (*first, *later)] == list(range(len(ALL) + 20))
    assert [asked.origin for asked in (*first, *later)] == ["default"] * len(ALL) + ["sampled"] * 20


def test_points_come_after_the_defaults_and_before_the_sampler() -> None:
    points = ({"strategy": "adapters", "width": 8}, {"strategy": "full", "optim/lr": "3e-5", "augment/flip": True})
    study = new_study(strategies=PAIR, search=Search(points=points))
    asked = [ask(study) for _ in range(5)]
    assert [item.origin for item in asked] == ["default", "default", "point 0", "point 1", "sampled"]
    assert asked[2].strategy == default_of("adapters").model_copy(update={"width": 8})
    assert (asked[3].params["strategy/optim/lr"], asked[3].params["strategy/augment/flip"]) == (3e-5, True)


def test_narrowed_ranges_hold_for_defaults_and_draws() -> None:
    search = Search(ranges={"optim/lr": (1e-4, 2e-4), "full/frozen_blocks": (2, 4)}, startup_trials=4)
    study = new_study(strategies=PAIR, search=search)
    for _ in range(25):
        asked = ask(study)
        assert 1e-4 <= asked.params["strategy/optim/lr"] <= 2e-4  # type: ignore[operator]
        if asked.strategy.name == "full":
            assert asked.params["strategy/frozen_blocks"] in (2, 4)
        finish(study, asked, asked.number / 100)


def test_the_baseline_is_never_suggested_again() -> None:
    study = new_study()
    names = [ask(study).strategy.name for _ in range(60)]
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
    study = new_study(storage=sqlite(tmp_path))
    complete, pruned, failed, running = (ask(study) for _ in range(4))
    for unit, value in enumerate((0.2, 0.6, 0.5), start=1):
        study.report(complete.number, unit=unit, value=value)
    study.complete(complete.number, value=0.6)
    study.report(pruned.number, unit=1, value=0.9)
    study.note(pruned.number, outcome={"unit": 1})
    study.prune(pruned.number)
    study.report(failed.number, unit=1, value=0.8)
    study.fail(failed.number, reason="RuntimeError: out of memory")

    stored = optuna.load_study(study_name="sweep", storage=sqlite(tmp_path))
    states = [trial.state for trial in stored.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert stored.trials[0].intermediate_values == {1: 0.2, 2: 0.6, 3: 0.5}
    assert stored.trials[1].intermediate_values == {1: 0.9}
    assert stored.trials[1].user_attrs["outcome"] == {"unit": 1}
    assert stored.trials[2].user_attrs["reason"] == "RuntimeError: out of memory"
    assert [trial.user_attrs["strategy"] for trial in stored.trials] == list(ALL[:4])
    assert (stored.best_trial.number, stored.best_value) == (0, 0.6)
    assert running.number == 3


def test_importances_and_the_best_trial_never_see_low_budget_scores() -> None:
    """A stopped trial that was ahead at its unit, with a rate that decides nothing, must not mislead them."""
    study = new_study(strategies=("adapters",), search=Search(sampler=SamplerKind.RANDOM))
    for _ in range(60):
        asked = ask(study)
        width = asked.params["strategy/width"]
        assert isinstance(width, int)
        if asked.number % 3 == 0:
            study.report(asked.number, unit=1, value=5.0)
            study.prune(asked.number)
        else:
            finish(study, asked, width / 256)
    weights = optuna.importance.get_param_importances(
        study.study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    assert next(iter(weights)) == "adapters/width"
    assert weights["adapters/width"] > 0.8
    assert study.study.best_value <= 1.0


def test_names_in_the_database_keep_strategies_apart() -> None:
    study = new_study(strategies=PAIR)
    for _ in range(2):
        ask(study)
    names = [set(trial.params) for trial in study.study.trials]
    assert names[0] & names[1] == {"strategy"}
    assert "full/optim/lr" in names[0]
    assert "adapters/optim/lr" in names[1]


@pytest.mark.parametrize("allocation", Allocation)
def test_equal_shares_are_equal_and_adaptive_ones_go_where_it_pays(allocation: Allocation) -> None:
    study = new_study(strategies=("full", "adapters", "linear_probe"), search=Search(allocation=allocation))
    for _ in range(60):
        asked = ask(study)
        finish(study, asked, 0.9 if asked.strategy.name == "adapters" else 0.1)
    late = [trial.user_attrs["strategy"] for trial in study.study.trials[30:]]
    if allocation is Allocation.EQUAL:
        assert [late.count(name) for name in ("full", "adapters", "linear_probe")] == [10, 10, 10]
    else:
        assert late.count("adapters") > len(late) / 2


def test_a_name_that_is_taken_and_one_that_is_not_there_are_said(tmp_path: Path) -> None:
    new_study(storage=sqlite(tmp_path))
    with pytest.raises(InputError, match=r"has a study 'sweep' already"):
        new_study(storage=sqlite(tmp_path))
    other = SweepStudy(sqlite(tmp_path), name="b", strategies=PAIR, seed=0, search=Search())
    assert other.trials() == []
    with pytest.raises(InputError, match=r"no study 'c'; it holds b, sweep|no study 'c'; it holds sweep, b"):
        SweepStudy(sqlite(tmp_path), name="c", strategies=PAIR, seed=0, search=Search(), reopen=True)
    missing = tmp_path / "nowhere.db"
    with pytest.raises(InputError, match=r"nowhere\.db: no such file"):
        SweepStudy(f"sqlite:///{missing}", name="c", strategies=PAIR, seed=0, search=Search(), reopen=True)
    assert not missing.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs/study.db", "'runs/study.db': not the URL of a database"),
        ("mysql://a@b/c", "mysql"),
        ("postgresql://user:hidden@127.0.0.1:1/base", "cannot open the study's database"),
        ("sqlite:////nowhere/at/all/study.db", "cannot open the study's database"),
    ],
)
def test_databases_that_cannot_be_opened_are_one_line_without_a_password(url: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        new_study(storage=url)
    assert message in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)
