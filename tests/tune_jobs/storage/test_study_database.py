"""Databases of studies: how SQLite is written, and one that is away, half made, or another's."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from handclip_core.errors import InputError
from tests.tune_jobs.exported import ALL, PAIR, Exported, of_every_kind, sqlite
from tests.tune_jobs.made_up import MadeUpSweep
from tests.tune_jobs.simulated import run, settings
from tune_jobs.config.search import Search
from tune_jobs.reporting.study import StudyExport
from tune_jobs.search.trial_views import frozen
from tune_jobs.state.trials import Trials
from tune_jobs.storage.study_database import create_study, in_bulk, open_storage, refuse_taken


def waits(storage: BaseStorage) -> list[int]:
    """Whether connections wait for the disk, as SQLite says it: 0 for none, 2 for all that is written."""
    backend = storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, RDBStorage)
    with backend.engine.connect() as one, backend.engine.connect() as other:
        return [int(each.exec_driver_sql("PRAGMA synchronous").scalar() or 0) for each in (one, other)]


def test_sqlite_does_not_wait_for_the_disk_within_the_block_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    assert waits(storage) == [2, 2]
    with in_bulk(storage):
        assert waits(storage) == [0, 0]
        study = create_study(storage, name="one", directions=(StudyDirection.MAXIMIZE,))
        study.add_trial(create_trial(value=1.0))
    assert waits(storage) == [2, 2]
    study.add_trial(create_trial(value=2.0))
    assert len(RDBStorage(url).get_all_trials(study._study_id)) == 2


def away(*_: Any, **__: Any) -> None:
    raise StorageInternalError("could not connect")


WRITES = ("create_new_study", "_create_new_trial", "set_trial_intermediate_value", "set_trial_state_values")


def test_a_database_that_goes_away_costs_the_sweep_nothing_and_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    exported.sweep.complete(exported.begin(), 0.1)
    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(RDBStorage, name, away)
        for score in (0.2, 0.3):
            exported.sweep.complete(exported.begin(), score)
    told = capsys.readouterr().out
    assert told == "the study cannot be written (could not connect); the sweep goes on without it\n", "said once"
    exported.sweep.complete(exported.begin(), 0.4)
    exported.study.close(exported.sweep.all_trials)
    assert [trial.values for trial in exported.stored()] == [[0.1], [0.2], [0.3], [0.4]]
    written = exported.truth()
    exported.another().rebuild(exported.sweep.all_trials)
    assert exported.truth() == written
    assert capsys.readouterr().out == ""


def test_a_database_that_is_away_to_the_end_is_said_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    for name in WRITES:
        monkeypatch.setattr(RDBStorage, name, away)
    exported.sweep.complete(exported.begin(), 0.1)
    exported.study.close(exported.sweep.all_trials)
    assert capsys.readouterr().out.splitlines()[-1] == "the study lacks trials; add them later with --export"


def test_a_whole_sweep_whose_database_goes_away_ends_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(settings(tmp_path / "whole", trials=5))
    calls, real = 0, RDBStorage._create_new_trial

    def flaky(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return away() if calls > 3 else real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "_create_new_trial", flaky)
        cut = run(settings(tmp_path / "cut", trials=5))
    assert calls > 3
    assert [(r.params, r.status, r.curve) for r in cut.all_trials.all()] == [
        (r.params, r.status, r.curve) for r in whole.all_trials.all()
    ]


def test_a_study_of_that_name_of_another_sweep_is_refused_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    exported.sweep.complete(exported.begin(), 0.1)
    exported.study.close(exported.sweep.all_trials)
    before = exported.truth()
    with pytest.raises(InputError, match="has a study 'sweep' already; choose another --name"):
        exported.another().rebuild(MadeUpSweep(name="another").all_trials)
    with pytest.raises(InputError, match="has a study 'sweep' already; choose another --name"):
        refuse_taken(exported.url, "sweep")
    refuse_taken(exported.url, "another")
    assert exported.truth() == before


@pytest.mark.parametrize("owned", [True, False])
def test_what_a_driver_left_that_died_while_it_made_the_study_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    of_every_kind(exported)
    exported.study.close(exported.sweep.all_trials)
    written = exported.truth()
    optuna.delete_study(study_name="sweep", storage=exported.url)
    left = optuna.create_study(study_name="sweep", storage=exported.url)
    if owned:
        left.set_user_attr("sweep", "made-up")
        left.add_trial(exported_first(exported))
    exported.another().rebuild(exported.sweep.all_trials)
    assert exported.truth() == written


def exported_first(exported: Exported) -> FrozenTrial:
    """The first trial as Optuna knows it."""
    return frozen(exported.sweep.all_trials.trials[0], exported.settings.search.space(ALL), ("map",))


def test_a_study_without_an_owner_that_holds_trials_is_not_ours(tmp_path: Path) -> None:
    optuna.create_study(study_name="sweep", storage=sqlite(tmp_path)).add_trial(optuna.trial.create_trial(value=1.0))
    space = Search().space(PAIR)
    export = StudyExport(sqlite(tmp_path), name="sweep", space=space, objectives=("map",), artifacts=tmp_path)
    with pytest.raises(InputError, match="has a study 'sweep' already"):
        export.rebuild(Trials())


def test_another_process_that_adds_trials_is_noticed_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = Exported(tmp_path, monkeypatch)
    other = optuna.load_study(study_name="sweep", storage=exported.url)
    other.add_trial(optuna.trial.create_trial(value=0.99))
    exported.sweep.complete(exported.begin(), 0.1)
    assert "study 'sweep': another process writes to it" in capsys.readouterr().out
    exported.sweep.complete(exported.begin(), 0.2)
    exported.study.close(exported.sweep.all_trials)
    assert [trial.values for trial in exported.stored()] == [[0.1], [0.2]], "written anew from the journal"


def test_a_study_that_could_not_be_begun_is_not_tried_again_when_it_is_closed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = StudyExport("nothing", name="sweep", space=Search().space(PAIR), objectives=("map",), artifacts=tmp_path)
    with pytest.raises(InputError, match="not the URL of a database"):
        study.rebuild(Trials())
    study.close(Trials())
    assert capsys.readouterr().out == ""
