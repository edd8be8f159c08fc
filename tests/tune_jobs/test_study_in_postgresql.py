"""Studies in databases: a real PostgreSQL server, and URLs that cannot be used."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from handclip_core.errors import InputError
from tests.tune_jobs.made_up import MadeUpSweep
from tune_jobs.config.search import Search
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.study import StudyExport
from tune_jobs.search.proposer import SearchProposer
from tune_jobs.storage.study_database import create_study, find_study, open_storage, shown, with_driver

SETTINGS = SweepSettings(strategies=("zero_shot", "linear_probe"), trials=20, search=Search(startup_trials=2))
MAXIMIZE = (StudyDirection.MAXIMIZE,)


def export(url: str, *, name: str) -> StudyExport:
    search = SETTINGS.search
    space, artifacts = search.space(SETTINGS.strategies), Path("artifacts")  # which no test writes
    return StudyExport(url, name=name, space=space, objectives=search.objectives, artifacts=artifacts)


def made_up(*, name: str, trials: int) -> MadeUpSweep:
    """A sweep whose fourth trial was stopped early."""
    sweep, proposer = MadeUpSweep(name=name), SearchProposer(SETTINGS)
    add(sweep, proposer, trials)
    return sweep


def add(sweep: MadeUpSweep, proposer: SearchProposer, trials: int) -> None:
    for _ in range(trials):
        trial = sweep.begin(proposer.next(sweep.all_trials))
        sweep.score(trial, trial.number / 10)
        sweep.end(trial, "stopped" if trial.number == 3 else "complete")


def stored(url: str, *, name: str) -> Sequence[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=with_driver(url)).get_trials()


def plain(trials: Sequence[FrozenTrial]) -> list[tuple[object, ...]]:
    """All but ids and times."""
    return [(t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs) for t in trials]


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
def test_a_study_in_postgresql_is_the_same_as_one_in_sqlite(server: Any, tmp_path: Path) -> None:
    sweep = made_up(name="whole", trials=7)
    urls = server.get_uri(), f"sqlite:///{tmp_path / 'study.db'}"
    for url in urls:
        export(url, name="whole").rebuild(sweep.all_trials)
    found = [stored(url, name="whole") for url in urls]
    assert plain(found[0]) == plain(found[1])
    assert [trial.state for trial in found[0]].count(TrialState.PRUNED) == 1
    assert found[0][2].intermediate_values == {1: 0.2}
    assert optuna.load_study(study_name="whole", storage=with_driver(urls[0])).best_trial.number == 6


@pytest.mark.spawn
def test_several_sweeps_share_a_database_by_name(server: Any) -> None:
    url = server.get_uri()
    export(url, name="one").rebuild(made_up(name="one", trials=3).all_trials)
    export(url, name="two").rebuild(made_up(name="two", trials=2).all_trials)
    assert [len(stored(url, name=name)) for name in ("one", "two")] == [3, 2]
    with pytest.raises(InputError, match="has a study 'one' already; choose another --name"):
        export(url, name="one").rebuild(made_up(name="two", trials=1).all_trials)
    assert [len(stored(url, name=name)) for name in ("one", "two")] == [3, 2]


@pytest.mark.spawn
def test_connections_that_the_server_has_closed_are_opened_again(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url, sweep, proposer = server.get_uri(), MadeUpSweep(name="cut"), SearchProposer(SETTINGS)
    study = export(url, name="cut")
    study.rebuild(sweep.all_trials)
    sweep.exports.append(study)
    add(sweep, proposer, 2)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    add(sweep, proposer, 2)
    study.close(sweep.all_trials)
    assert [trial.state.name for trial in stored(url, name="cut")] == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED"]
    assert capsys.readouterr().out == ""


def test_a_study_is_found_by_its_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    create_study(open_storage(url), name="one", directions=MAXIMIZE)
    assert find_study(url, name="two") is None
    found = find_study(url, name="one")
    assert found is not None
    assert found.study_name == "one"
    with pytest.raises(InputError, match="has a study 'one' already"):
        create_study(open_storage(url), name="one", directions=MAXIMIZE)


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
        open_storage(url)
    assert message in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_postgresql_gets_its_driver_and_other_urls_stay() -> None:
    assert with_driver("postgresql://a:b@host/base") == "postgresql+psycopg://a:b@host/base"
    assert with_driver("sqlite:////x/y.db") == "sqlite:////x/y.db"
    assert shown("postgresql://a:b@host/base") == "postgresql://a:***@host/base"


def test_postgresql_without_its_package_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"PostgreSQL needs the package psycopg; pip install 'psycopg\[binary\]'"):
        with_driver("postgresql://a@host/base")
