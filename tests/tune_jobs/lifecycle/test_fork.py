"""New sweeps that begin with what another has found: forks and warm starts."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from handclip_core.errors import InputError
from handclip_core.runs.run_folder import write_text
from tests.tune_jobs.dying import Fuse, run_to_the_end
from tests.tune_jobs.simulated import begun, rising, run, settings, state_of
from tests.tune_jobs.simulation import Step
from tune_jobs.config.settings import SETTINGS, EarlyStopping, StoppingKind, SweepSettings, dump_settings, load_settings
from tune_jobs.lifecycle.folders import create_folder
from tune_jobs.lifecycle.fork import Fork, fork
from tune_jobs.lifecycle.reopening import forked_settings
from tune_jobs.lifecycle.run import sweep
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.events import Started
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status

SHARED: dict[str, Any] = {"strategies": ("linear_probe", "adapters"), "budget": 3}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of eight trials, one of which has failed."""

    def unlucky(experiment: Any, unit: int) -> Step:
        if experiment.strategy.optim.lr == 1e-3 and experiment.strategy.name == "adapters":
            raise RuntimeError("lost")
        return rising(experiment, unit)

    storage = tmp_path_factory.mktemp("other")
    run(settings(storage, name="first", trials=8, retries=0, **SHARED), unlucky)
    return storage / "first"


def forked(other: Path, storage: Path, **changed: Any) -> tuple[SweepSettings, Fork]:
    """The settings of ``other`` changed, and the folder of the new sweep made."""
    before = load_settings(other / SETTINGS)
    after = before.model_copy(update={"name": "second", "storage": storage, **changed})
    found = fork(other, before, after)
    create_folder(after, number_taken_names=False, fill=found.fill)
    return after, found


def test_a_longer_fork_takes_every_trial_over_but_the_failed_one_and_runs_the_rest(other: Path, tmp_path: Path) -> None:
    first = state_of(other)
    after, found = forked(other, tmp_path, trials=12)
    assert found.lines() == ["7 of 8 trials are taken over from first", "  1 left behind: failed"]
    ready = run(after)
    folder = tmp_path / "second"
    kept = [trial for trial in first["trials"] if trial[1] is not Status.FAILED]
    now = state_of(folder)["trials"]
    assert [trial[1:8] for trial in now[:7]] == [trial[1:8] for trial in kept]
    assert begun(folder) == list(range(12))
    started = {event.trial for event in read_journal(folder / FILE) if isinstance(event, Started)}
    assert started == set(range(7, 12))
    study = optuna.load_study(study_name="second", storage=f"sqlite:///{folder / STUDY}")
    by_number = {trial.number: trial for trial in study.trials}
    assert [by_number[n].state.name for n in range(7)] == [
        {"complete": "COMPLETE", "stopped": "PRUNED"}[trial[1]] for trial in kept
    ]
    assert [by_number[n].intermediate_values for n in range(7)] == [trial[5] for trial in kept]
    assert [by_number[n].user_attrs["origin"] for n in (0, 7)] == ["default", "default"], "what failed is tried again"
    assert ready.all_trials.trials[0].source == "first trial 0"
    assert (folder / "trials" / ready.all_trials.trials[0].name / "config.json").exists()


def test_rungs_know_the_trials_that_were_taken_over(other: Path, tmp_path: Path) -> None:
    after, found = forked(other, tmp_path, trials=7)
    ready = run(after)
    whole = {number for number in found.numbers.values() if ready.all_trials.trials[number].status is Status.COMPLETE}
    assert set(ready.scheduler.decisions.stopped) == set(found.numbers.values()) - whole
    assert ready.all_trials.winner is not None
    assert (tmp_path / "second" / str(ready.all_trials.winner.checkpoint) / "handclip_best.pth").exists()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"budget": 4}, "data, seed or budget differ"),
        ({"seed": 7}, "data, seed or budget differ"),
        ({"strategies": ("linear_probe", "full")}, "strategy adapters is not in this sweep"),
        ({"early_stopping": EarlyStopping(kind=StoppingKind.NONE)}, "was stopped early by another rule"),
        ({"trials": 3}, "this sweep has only 3 trials"),
    ],
)
def test_what_the_change_touches_is_left_behind_and_named(
    other: Path, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    before = load_settings(other / SETTINGS)
    found = fork(other, before, before.model_copy(update={"storage": tmp_path, **changed}))
    assert reason in found.dropped
    assert len(found.numbers) + found.dropped.total() == 8
    if "budget" in changed or "seed" in changed:
        assert found.numbers == {}


def test_narrowed_ranges_leave_out_what_lies_outside(other: Path, tmp_path: Path) -> None:
    before = load_settings(other / SETTINGS)
    search = before.search.model_copy(update={"ranges": {"optim/lr": (1e-3, 2e-3)}})
    found = fork(other, before, before.model_copy(update={"search": search, "storage": tmp_path}))
    assert 0 in found.numbers, "the default lies inside"
    assert any("optim/lr" in reason for reason in found.dropped)


def test_a_fork_whose_driver_dies_goes_on_as_any_other(fuse: Fuse, other: Path, tmp_path: Path) -> None:
    whole, _ = forked(other, tmp_path / "whole", trials=10)
    run(whole)
    after, _ = forked(other, tmp_path, trials=10)
    lengths = iter([3, 5, 9, 20, 4, 15, 30, 12, 10**9])
    assert run_to_the_end(after, fuse, lengths) >= 5
    assert state_of(tmp_path / "second") == state_of(tmp_path / "whole" / "second")


def test_a_forks_settings_are_the_others_with_what_was_set(other: Path) -> None:
    by_path = forked_settings(other, name="mine", overrides=["trials=20"])
    by_name = forked_settings(Path("first"), name="mine", overrides=["trials=20", f"storage={other.parent}"])
    for found in (by_path, by_name):
        assert (found.folder, found.settings.name, found.settings.trials) == (other, "mine", 20)
        assert found.settings.strategies == SHARED["strategies"]
    with pytest.raises(InputError, match=r"--fork: .*nothing is no sweep's folder"):
        forked_settings(Path("nothing"), name=None, overrides=[])


def test_a_folder_that_is_there_but_no_sweep_is_named_as_it_was_given(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "first").mkdir(parents=True)
    (tmp_path / "here" / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    in_storage = [f"storage={other.parent}"]
    assert forked_settings(Path("first"), name="mine", overrides=in_storage).folder == other
    with pytest.raises(
        InputError, match=f"--fork: {tmp_path / 'here' / 'empty'} is no sweep's folder, with a sweep.yaml"
    ):
        forked_settings(Path("empty"), name="mine", overrides=in_storage)


def test_a_point_that_both_sweeps_try_is_not_tried_again(tmp_path: Path) -> None:
    first, second = ({"strategy": "linear_probe", "optim/lr": lr} for lr in (2e-4, 3e-4))
    run(settings(tmp_path, name="first", trials=5, search={"points": [first, second]}, **SHARED))
    before = load_settings(tmp_path / "first" / SETTINGS)
    search = before.search.model_copy(update={"points": (second,)})
    after, _ = forked(tmp_path / "first", tmp_path, search=search, trials=6)
    ready = run(after)
    assert [view.origin for view in ready.all_trials.all()] == [
        "default", "default", "sampled", "point 0", "sampled", "sampled",
    ]  # fmt: skip
    assert [view.source != "" for view in ready.all_trials.all()] == [True] * 5 + [False]


def test_a_warm_start_makes_the_search_know_the_others_trials_and_says_what_it_uses(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = settings(tmp_path, name="warm", trials=5, warm_start=other, **SHARED)
    ready = run(swept)
    told = capsys.readouterr().out
    assert f"learning from {other}: 7 of 8 trials are used\n  1 dropped: failed\n" in told
    cold = run(settings(tmp_path, name="cold", trials=5, **SHARED))
    drawn = [[view.params for view in found.all_trials.all()] for found in (ready, cold)]
    assert drawn[0][:2] == drawn[1][:2], "the defaults come first in both"
    assert drawn[0][2:] != drawn[1][2:]
    assert len(ready.all_trials.all()) == 5, "the other's trials are not counted"
    study = optuna.load_study(study_name="warm", storage=f"sqlite:///{tmp_path / 'warm' / STUDY}")
    assert len(study.trials) == 5


def test_a_warm_start_survives_its_driver(fuse: Fuse, other: Path, tmp_path: Path) -> None:
    run(settings(tmp_path / "whole", trials=6, warm_start=other, **SHARED))
    lengths = iter([1, 2, 4, 8, 16, 25, 40, 30, 10**9])
    assert run_to_the_end(settings(tmp_path, trials=6, warm_start=other, **SHARED), fuse, lengths) >= 5
    assert state_of(tmp_path / "simulated") == state_of(tmp_path / "whole" / "simulated")


def test_a_warm_start_from_nowhere_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    swept = settings(tmp_path / "runs", warm_start=Path("nothing"))
    with pytest.raises(InputError, match=r"warm_start: .*nothing is no sweep's folder"):
        sweep(swept)
    assert not (tmp_path / "runs").exists()


def test_what_was_learned_stays_if_the_other_sweep_goes(other: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    run(settings(tmp_path / "whole", trials=6, warm_start=copy, **SHARED))
    run(settings(tmp_path, trials=3, warm_start=copy, **SHARED))
    shutil.rmtree(copy)
    run(settings(tmp_path, trials=6, warm_start=copy, **SHARED))
    assert state_of(tmp_path / "simulated") == state_of(tmp_path / "whole" / "simulated")


def test_a_sweep_that_has_not_begun_has_nothing_to_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write_text(empty / SETTINGS, dump_settings(settings(tmp_path, name="empty")))
    ready = run(settings(tmp_path, trials=3, warm_start=empty, **SHARED))
    assert ready.all_trials.learned == ()
    assert f"learning from {empty}: 0 of 0 trials are used" in capsys.readouterr().out


def test_a_sweep_with_a_damaged_journal_cannot_be_learned_from(other: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    lines = (copy / FILE).read_bytes().splitlines(keepends=True)
    (copy / FILE).write_bytes(b"".join(lines[:4] + lines[5:]))
    with pytest.raises(InputError, match=r"journal\.jsonl: line 5 was changed, or one before it is missing"):
        run(settings(tmp_path, warm_start=copy, **SHARED))
