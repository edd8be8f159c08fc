"""The Optuna study of a sweep: it says what has happened, however it came to be written."""

import json
import re
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tests.tune_jobs.exported import ALL, PAIR, Exported, of_every_kind
from tune_jobs.config.search import SamplerKind, Search
from tune_jobs.reporting.study import ARTIFACTS, FILE


def test_the_study_tells_the_truth_while_the_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = Exported(tmp_path, monkeypatch)
    of_every_kind(exported)
    exported.study.close(exported.sweep.all_trials)
    stored = exported.stored()
    assert [trial.state for trial in stored] == [
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING,
    ]  # fmt: skip
    assert [trial.intermediate_values for trial in stored] == [
        {1: 0.2, 2: 0.6, 3: 0.5}, {1: 0.9}, {1: 0.8}, {1: 0.1, 2: 0.3}, {},
    ]  # fmt: skip
    assert [trial.values for trial in stored] == [[0.6], [0.9], None, None, None]
    assert stored[1].user_attrs["unit"] == 1
    assert stored[1].user_attrs["map"] == 0.9
    plain = (str, int, float)
    assert all(isinstance(value, plain) for trial in stored for value in trial.user_attrs.values()), "a cell each"
    assert stored[2].user_attrs["reason"] == "RuntimeError: out of memory"
    assert [trial.user_attrs["strategy"] for trial in stored] == list(ALL[:5])
    assert {trial.user_attrs["origin"] for trial in stored} == {"default"}
    study = optuna.load_study(study_name="sweep", storage=exported.url)
    assert (study.best_trial.number, study.best_value) == (0, 0.6)


@pytest.mark.parametrize("objectives", [("map",), ("map", "params_trained")])
def test_a_study_that_is_rebuilt_is_the_one_that_was_written_as_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objectives: tuple[str, ...]
) -> None:
    exported = Exported(tmp_path, monkeypatch, search=Search(objectives=objectives))
    of_every_kind(exported)
    exported.study.close(exported.sweep.all_trials)
    written, arms = exported.truth(), exported.arms()
    assert (len(written), len(arms)) == (5, 2)
    exported.another().rebuild(exported.sweep.read_again())
    assert (exported.truth(), exported.arms()) == (written, arms)
    (tmp_path / FILE).unlink()
    exported.another().rebuild(exported.sweep.all_trials)
    assert (exported.truth(), exported.arms()) == (written, arms)


def test_each_arm_has_a_study_with_plain_names_of_its_trials_in_the_order_of_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Exported(tmp_path, monkeypatch, strategies=("zero_shot", "full", "adapters"))
    nothing, first, other, second, _ = (exported.begin() for _ in range(5))
    for trial in (nothing, second, other, first):
        exported.sweep.complete(trial, trial.number / 10)
    exported.study.close(exported.sweep.all_trials)
    arms, found = exported.arms(), dict[str, list[int]]()
    for trial in (second, other, first):
        found.setdefault(f"sweep/{trial.arm}", []).append(trial.number)
    assert len(found) == 2
    assert {name: [attributes["trial"] for *_, attributes in trials] for name, trials in arms.items()} == found
    for name, trials in arms.items():
        for _, state, values, params, ranges, *_, attributes in trials:
            trial = exported.sweep.all_trials.trials[attributes["trial"]]
            assert (state, values) == (TrialState.COMPLETE, [trial.score])
            assert params == {path.removeprefix("strategy/"): value for path, value in trial.params.items()}
            assert set(ranges) == set(params), name


def test_a_study_says_when_its_trials_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = Exported(tmp_path, monkeypatch, strategies=PAIR)
    began = exported.sweep.clock()
    trial = exported.begin()
    exported.sweep.complete(trial, 0.1, 0.2)
    exported.another().rebuild(exported.sweep.all_trials)
    (stored,) = exported.stored()
    assert stored.datetime_start is not None
    assert stored.datetime_complete is not None
    assert stored.datetime_start.timestamp() == began
    assert stored.datetime_complete.timestamp() == trial.ended_at > began


@pytest.mark.parametrize("away", [False, True])
def test_images_of_a_trial_are_where_the_dashboard_looks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    exported = Exported(tmp_path, monkeypatch, strategies=PAIR)
    shown, other = exported.begin(), exported.begin()
    for trial in (shown, other):
        exported.sweep.complete(trial, 0.5)
    exported.study.show_images(other.number, {"old.jpg": b"old", "queries 0.jpg": b"old"})
    exported.study.show_images(shown.number, {"queries 0.jpg": b"hands", "confusion.png": b"matrix"})
    if away:
        exported.study._study = None  # as after a write that failed
    exported.study.close(exported.sweep.all_trials)
    store, found = FileSystemArtifactStore(tmp_path / ARTIFACTS), {}
    storage = RDBStorage(exported.url)
    for study in storage.get_all_studies():
        for key, value in storage.get_study_system_attrs(study._study_id).items():
            if key.startswith("dashboard:artifacts:"):
                about = json.loads(value)
                assert key.split(":")[3] == about["artifact_id"]
                assert re.fullmatch("[0-9a-fA-F-]+", about["artifact_id"]), "what the dashboard's address takes"
                number = storage.get_trial(int(key.split(":")[2])).user_attrs.get("trial", shown.number)
                content = store.open_reader(about["artifact_id"]).read()
                found[study.study_name, number, about["filename"]] = (about["mimetype"], content)
    assert found == {
        (name, shown.number, file): known
        for name in ("sweep", f"sweep/{shown.arm}")
        for file, known in {
            "queries 0.jpg": ("image/jpeg", b"hands"),
            "confusion.png": ("image/png", b"matrix"),
        }.items()
    }
    assert len(list((tmp_path / ARTIFACTS).iterdir())) == 2, "no older ones are left"


def test_a_study_that_was_rebuilt_amid_the_sweep_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    running = exported.begin()
    exported.sweep.score(running, 0.1)
    another = exported.another()
    another.rebuild(exported.sweep.all_trials)
    exported.sweep.exports = [another]
    exported.sweep.complete(running, 0.3)
    another.close(exported.sweep.all_trials)
    (trial,) = exported.stored()
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.3])
    assert trial.intermediate_values == {1: 0.1, 2: 0.3}


def test_the_curves_of_several_objectives_are_kept_in_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Exported(tmp_path, monkeypatch, search=Search(objectives=("map", "params_trained")))
    stopped, complete = exported.begin(), exported.begin()
    exported.sweep.score(stopped, 0.3, 0.4)
    exported.sweep.end(stopped, "stopped")
    exported.sweep.complete(complete, 0.1, 0.2)
    exported.study.close(exported.sweep.all_trials)
    stored = exported.stored()
    assert [trial.state for trial in stored] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.user_attrs["curve"] for trial in stored] == [{"1": 0.3, "2": 0.4}, {"1": 0.1, "2": 0.2}]
    assert stored[1].values == [0.2, 10.0]


def test_importances_and_the_best_trial_never_see_low_budget_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped trial that was ahead at its unit, with a width that decides nothing, must not mislead them."""
    search = Search(sampler=SamplerKind.RANDOM)
    exported = Exported(tmp_path, monkeypatch, strategies=("adapters",), search=search)
    exported.sweep.exports.clear()
    for number in range(60):
        trial = exported.begin()
        width = trial.params["strategy/width"]
        if number % 3 == 0:
            exported.sweep.score(trial, 5.0)
            exported.sweep.end(trial, "stopped")
        else:
            exported.sweep.complete(trial, width / 256)
    exported.study.rebuild(exported.sweep.all_trials)
    study = optuna.load_study(study_name="sweep", storage=exported.url)
    weights = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    assert next(iter(weights)) == "adapters/width"
    assert weights["adapters/width"] > 0.8
    assert study.best_value <= 1.0


def test_names_in_the_database_keep_strategies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = Exported(tmp_path, monkeypatch, strategies=PAIR)
    for _ in range(2):
        exported.begin()
    exported.study.close(exported.sweep.all_trials)
    names = [set(trial.params) for trial in exported.stored()]
    assert names[0] & names[1] == {"strategy"}
    assert "full/optim/lr" in names[0]
    assert "adapters/optim/lr" in names[1]


def test_a_score_that_is_not_a_number_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = Exported(tmp_path, monkeypatch)
    trial = exported.begin()
    exported.sweep.score(trial, float("nan"))
    exported.sweep.end(trial, "failed", reason="validation mAP is not a number")
    exported.study.close(exported.sweep.all_trials)
    (stored,) = exported.stored()
    assert stored.state is TrialState.FAIL
    assert "map" not in stored.user_attrs


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_trial_that_is_over_has_a_note_where_the_dashboard_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rebuilt: bool
) -> None:
    exported = Exported(tmp_path, monkeypatch, strategies=("zero_shot", "full"))
    good, bad, running = exported.begin(), exported.begin(), exported.begin()
    exported.sweep.complete(good, 0.5)
    exported.sweep.end(bad, "failed", reason="RuntimeError: `x`\nand more")
    exported.study.close(exported.sweep.all_trials)
    if rebuilt:
        exported.study.rebuild(exported.sweep.all_trials)
    study = optuna.load_study(study_name="sweep", storage=exported.url)
    attributes = study._storage.get_study_system_attrs(study._study_id)

    def note(number: int) -> str:
        identity = study.get_trials()[number]._trial_id
        if f"dashboard:{identity}:note_ver" not in attributes:
            return ""
        return str(attributes[f"dashboard:{identity}:note_str:0"])

    assert note(good.number).startswith(f"**{good.arm}**: complete, 0.5000 at unit ")
    assert note(good.number).endswith(f"`trials/{good.name}`")
    assert "\n\n`RuntimeError: 'x' and more`\n\n" in note(bad.number)
    assert note(running.number) == ""
