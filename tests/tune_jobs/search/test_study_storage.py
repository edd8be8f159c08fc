"""Studies in databases: a real PostgreSQL server, and outages of any."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from handclip_core.errors import InputError
from tune_jobs.config.search import Search
from tune_jobs.search.study import Asked, SweepStudy
from tune_jobs.search.study_storage import shown, with_driver

STRATEGIES = ("zero_shot", "linear_probe")


def opened(url: str | None, *, name: str, reopen: bool = False) -> SweepStudy:
    return SweepStudy(url, name=name, strategies=STRATEGIES, seed=2, search=Search(startup_trials=2), reopen=reopen)


def ask(study: SweepStudy) -> Asked:
    asked = study.ask()
    assert asked is not None
    return asked


def drive(study: SweepStudy, trials: int) -> list[Asked]:
    done = []
    for _ in range(trials):
        asked = ask(study)
        study.report(asked.number, unit=1, value=asked.number / 10)
        study.note(asked.number, outcome={"unit": 1})
        if asked.number == 3:
            study.prune(asked.number)
        else:
            study.complete(asked.number, value=asked.number / 10)
        done.append(asked)
    return done


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL server of its own, in a folder that other users may enter: it refuses to run as root."""
    pgserver = pytest.importorskip("pgserver", reason="needs the package pgserver")
    folder = Path(tempfile.mkdtemp(prefix="hc-pg-"))
    try:
        running = pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL does not start here: {type(error).__name__}: {error}")
    yield running
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.spawn
def test_a_study_in_postgresql_is_the_same_as_one_in_memory(server: Any) -> None:
    url = server.get_uri()
    asked = drive(opened(url, name="whole"), 4)
    asked += drive(opened(url, name="whole", reopen=True), 3)
    assert asked == drive(opened(None, name="whole"), 7)

    stored = optuna.load_study(study_name="whole", storage=with_driver(url))
    assert [trial.state for trial in stored.trials].count(TrialState.PRUNED) == 1
    assert stored.trials[2].intermediate_values == {1: 0.2}
    assert stored.trials[2].user_attrs["outcome"] == {"unit": 1}
    assert stored.best_trial.number == 6


@pytest.mark.spawn
def test_several_sweeps_share_a_database_by_name(server: Any) -> None:
    url = server.get_uri()
    drive(opened(url, name="one"), 3)
    drive(opened(url, name="two"), 2)
    assert [len(opened(url, name=name, reopen=True).trials()) for name in ("one", "two")] == [3, 2]
    with pytest.raises(InputError, match="has a study 'one' already; choose another --name"):
        opened(url, name="one")
    with pytest.raises(InputError, match="no study 'three'"):
        opened(url, name="three", reopen=True)


@pytest.mark.spawn
def test_connections_that_the_server_has_closed_are_opened_again(server: Any) -> None:
    study = opened(server.get_uri(), name="cut")
    drive(study, 2)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    drive(study, 2)
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED"]


@pytest.mark.spawn
def test_a_second_writer_is_noticed(server: Any) -> None:
    study = opened(server.get_uri(), name="twice")
    drive(study, 1)
    other = opened(server.get_uri(), name="twice", reopen=True)
    real = study.study.add_trial

    def meanwhile(trial: optuna.trial.FrozenTrial) -> None:
        ask(other)
        real(trial)

    study.study.add_trial = meanwhile  # type: ignore[method-assign]
    with pytest.raises(InputError, match="another process writes to it"):
        study.ask()


def test_a_write_is_tried_again_until_the_database_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened(None, name="s")
    failures = 3
    waits: list[float] = []
    real = study.study.add_trial

    def flaky(trial: optuna.trial.FrozenTrial) -> None:
        nonlocal failures
        failures -= 1
        if failures == 1:
            # This time the write arrives, and its confirmation does not.
            real(trial)
        if failures >= 0:
            raise StorageInternalError("away")
        real(trial)

    monkeypatch.setattr(study.study, "add_trial", flaky)
    monkeypatch.setattr("tune_jobs.search.study_storage.time.sleep", waits.append)
    assert ask(study).number == 0
    assert len(study.trials()) == 1
    assert waits == [0.1, 0.2]


def test_a_database_that_stays_away_ends_the_sweep_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StorageInternalError("could not connect")

    study = opened(None, name="s")
    asked = ask(study)
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(study.study, "tell", away)
    monkeypatch.setattr("tune_jobs.search.study_storage.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("tune_jobs.search.study_storage.time.sleep", lambda _: None)
    with pytest.raises(InputError, match="the study cannot be written: could not connect"):
        study.complete(asked.number, value=0.5)


def test_postgresql_gets_its_driver_and_other_urls_stay() -> None:
    assert with_driver("postgresql://a:b@host/base") == "postgresql+psycopg://a:b@host/base"
    assert with_driver("sqlite:////x/y.db") == "sqlite:////x/y.db"
    assert shown("postgresql://a:b@host/base") == "postgresql://a:***@host/base"


def test_postgresql_without_its_package_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"PostgreSQL needs the package psycopg; pip install 'psycopg\[binary\]'"):
        with_driver("postgresql://a@host/base")
