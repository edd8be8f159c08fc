"""Runs of MLflow and W&B, one a trial, by stand-ins for the two packages, which are not among ours."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.simulated import run, settings
from tune_jobs.config.settings import Tracking
from tune_jobs.lifecycle.run import export
from tune_jobs.lifecycle.trackers import WANDB_FOLDER, refuse_missing
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trials import folded


class Client:
    """What is used of MLflow's client, on runs in memory."""

    runs: dict[str, dict[str, Any]]

    def __init__(self, tracking_uri: str) -> None:
        if tracking_uri == "http://nobody":
            raise ConnectionError("nobody\n answers")

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=name) if any(r["sweep"] == name for r in self.runs.values()) else None

    def create_experiment(self, name: str) -> str:
        return name

    def search_runs(self, experiments: list[str], filter_string: str) -> list[SimpleNamespace]:
        asked = dict(part.split(" = ") for part in filter_string.replace("tags.", "").replace("`", "").split(" and "))
        wanted = {key: value.strip("'") for key, value in asked.items()}
        return [
            SimpleNamespace(info=SimpleNamespace(run_id=key))
            for key, one in self.runs.items()
            if one["sweep"] in experiments and wanted.items() <= one["tags"].items()
        ]

    def delete_run(self, key: str) -> None:
        del self.runs[key]

    def create_run(self, sweep: str, start_time: int, tags: dict[str, str], run_name: str) -> SimpleNamespace:
        key = f"{len(self.runs)}-{run_name}"
        self.runs[key] = {"sweep": sweep, "tags": tags, "name": run_name, "metrics": [], "params": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id=key, start_time=start_time))

    def log_batch(self, key: str, metrics: list[SimpleNamespace], params: list[SimpleNamespace]) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.runs[key]["metrics"] += metrics
        self.runs[key]["params"] |= {param.key: param.value for param in params}

    def set_terminated(self, key: str, status: str, end_time: int) -> None:
        self.runs[key] |= {"status": status, "end_time": end_time}


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """MLflow's modules; its runs by their key."""
    tracking, entities = ModuleType("mlflow.tracking"), ModuleType("mlflow.entities")
    Client.runs = {}
    tracking.MlflowClient = Client  # type: ignore[attr-defined]
    entities.Metric = lambda name, value, at, step: SimpleNamespace(key=name, value=value, at=at, step=step)  # type: ignore[attr-defined]
    entities.Param = lambda name, value: SimpleNamespace(key=name, value=value)  # type: ignore[attr-defined]
    for name, module in (
        ("mlflow", ModuleType("mlflow")),
        ("mlflow.tracking", tracking),
        ("mlflow.entities", entities),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return Client.runs


class Logged:
    """A run of W&B, which is a folder as its offline ones are."""

    def __init__(self, given: dict[str, Any], number: int) -> None:
        self.given, self.rows, self.summary = given, list[tuple[int, dict[str, float]]](), dict[str, float]()
        self.folder = Path(given["dir"]) / WANDB_FOLDER / f"offline-run-{number:04}-{given['id']}"
        self.folder.mkdir(parents=True)

    def __enter__(self) -> "Logged":
        return self

    def __exit__(self, *_: object) -> None: ...

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Logged]:
    """W&B's module; its runs in their order."""
    module, runs = ModuleType("wandb"), list[Logged]()

    def init(**given: Any) -> Logged:
        runs.append(Logged(given, len(runs)))
        return runs[-1]

    module.init, module.Settings, module.teardown = init, dict, lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def test_each_trial_is_a_run_with_its_settings_and_the_figures_of_its_units(
    tmp_path: Path, mlflow: dict[str, dict[str, Any]], wandb: list[Logged]
) -> None:
    swept = settings(tmp_path, trials=6, tracking={"mlflow": "http://here", "wandb": "offline"})
    run(swept)
    folder = tmp_path / swept.name
    views = folded(read_journal(folder / FILE)).all()
    assert [one["name"] for one in mlflow.values()] == [logged.given["name"] for logged in wandb]
    assert sorted(one["tags"]["handclip.trial"] for one in mlflow.values()) == [str(number) for number in range(6)]
    for view in views:
        one = next(one for one in mlflow.values() if one["name"] == view.name)
        curve = {metric.step: metric.value for metric in one["metrics"] if metric.key == "map"}
        assert curve == view.curve
        drawn = {name: str(value) for name, value in view.params.items() if value is not None}
        assert one["params"] == drawn | {"strategy": view.strategy}
        assert len(drawn) > 3
        logged = next(logged for logged in wandb if logged.given["name"] == view.name)
        assert {step: values["map"] for step, values in logged.rows} == view.curve
        assert logged.summary["best_map"] == view.score
        assert logged.given["config"] == one["params"]
    run(swept.model_copy(update={"trials": 8}))
    assert len(mlflow) == len(wandb) == 8, "a driver that takes a sweep up writes what is new"
    export(swept, folder)
    assert len(mlflow) == 8, "runs that are written anew take the place of the old ones"
    assert len(list((folder / WANDB_FOLDER).iterdir())) == 8


def test_a_sweep_goes_on_without_a_tracker_that_does_not_answer(
    tmp_path: Path, mlflow: dict[str, dict[str, Any]], wandb: list[Logged], capsys: pytest.CaptureFixture[str]
) -> None:
    del wandb  # its module is there
    (tmp_path / "simulated").mkdir()
    (tmp_path / "simulated" / WANDB_FOLDER).write_text("a file where a folder is wanted")
    done = run(settings(tmp_path, trials=4, tracking={"mlflow": "http://nobody", "wandb": "offline"}))
    assert all(view.has_score for view in done.all_trials.all())
    told = [line for line in capsys.readouterr().out.splitlines() if "cannot be written" in line]
    assert len(told) == 2
    assert "mlflow: cannot be written (nobody answers); the sweep goes on, and --export writes it all" in told
    assert not mlflow


def test_what_is_not_installed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_jobs.lifecycle.trackers.find_spec", lambda _: None)
    refuse_missing(Tracking())
    with pytest.raises(InputError, match=r"tracking\.wandb: the package is not installed; `pip install wandb`"):
        refuse_missing(Tracking(wandb="online"))
