"""One experiment on a cluster, as far as it needs none: refusals, order of calls, and the folder that is left."""

import queue
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import Checkpoint

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import CONFIG, LOG, RunFolder
from handclip_core.signals import Ended
from handclip_core.strategies import Full
from tests.conftest import TINY_DATA
from tests.tune_jobs.alone import ROOM
from tests.tune_jobs.made_up import reported
from tune_jobs.config.settings import Resources
from tune_jobs.execution import cluster as cluster_module
from tune_jobs.execution import train_one as module
from tune_jobs.execution.train_fn import MARKER, SNAPSHOT
from tune_jobs.execution.train_one import ReportsTo, settle, train_on_cluster

EXPERIMENT = Experiment(strategy=Full(), data=TINY_DATA, budget=2)


class Reports(queue.Queue[dict[str, Any]]):
    """A queue without a cluster."""

    def shutdown(self, immediate: bool = False) -> None:
        del immediate


class Cluster:
    """Notes what is asked of it, in order; ``fit`` trains."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: BaseException | None = None

    def on_every_node(self, _: object, check: Any, wanted: str) -> None:
        assert (check, Experiment.model_validate_json(wanted)) == (module.check, EXPERIMENT)
        self.calls.append("check")

    def where_trials_run(self, _: object, complete: Any, folder: Path, experiment: Experiment) -> RunFolder:
        assert complete is module.complete
        self.calls.append("complete")
        return RunFolder(folder, experiment)

    def fit(self, config: dict[str, Any], where: Any, *, name: str, callbacks: list[Any], keep: int) -> None:
        self.calls.append(f"fit {name}, kept {keep}, from {config['checkpoint']}")
        for unit in (1, 2):
            told = reported(unit, 0.25 * unit, phase="full")
            callbacks[0].after_report(None, [told, told | {"unit": 99}], None)
        left(Path(where.path) / name, "checkpoint_2")
        if self.error is not None:
            raise self.error


def left(folder: Path, *names: str) -> None:
    """What Ray Train leaves in a run's folder: its checkpoints, and files that say that it was there."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / LOG).write_text(name)
    for name in (MARKER, SNAPSHOT):
        (folder / name).write_text("")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(cluster_module, "connect", lambda: found.calls.append("connect"))
    monkeypatch.setattr(cluster_module, "nodes", lambda: [])
    monkeypatch.setattr(cluster_module, "fit_trials", lambda *_: ROOM)
    monkeypatch.setattr(cluster_module, "run_on_every_node", found.on_every_node)
    monkeypatch.setattr(cluster_module, "run_where_trials_run", found.where_trials_run)
    monkeypatch.setattr(cluster_module, "end", lambda: found.calls.append("end"))
    monkeypatch.setattr(module, "fit", found.fit)
    monkeypatch.setattr(module, "Queue", Reports)
    monkeypatch.setattr(module, "Result", SimpleNamespace(from_path=last_of))
    return found


def last_of(folder: str) -> Any:
    """Ray's result of a run: its last checkpoint."""
    saved = sorted(path for path in Path(folder).glob("checkpoint_*") if path.is_dir())
    return SimpleNamespace(checkpoint=Checkpoint.from_directory(saved[-1]) if saved else None)


def test_a_run_is_checked_trained_told_and_completed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train_on_cluster(tmp_path / "run", EXPERIMENT, resources=Resources(workers=2))
    assert cluster.calls == ["connect", "check", "fit run, kept 1, from None", "complete"]
    assert found.experiment == EXPERIMENT
    told = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in told] == ["unit 1/2", "unit 2/2"], "the first worker's alone"
    kept = found.kept_checkpoint()
    assert kept is not None
    assert (kept / LOG).read_text() == "checkpoint_2"
    assert not (found.folder / MARKER).exists()


def test_a_run_is_taken_up_from_its_checkpoint(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    RunFolder.create(folder, EXPERIMENT).keep_checkpoint(lambda into: into.mkdir())
    train_on_cluster(folder, EXPERIMENT, resources=Resources(), resume=True)
    assert cluster.calls[2] == f"fit run, kept 1, from {RunFolder(folder, EXPERIMENT).kept_checkpoint()}"


def test_what_a_worker_raised_is_raised_and_what_it_saved_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    cluster.error = InputError("the data are gone")
    with pytest.raises(InputError, match="the data are gone"):
        train_on_cluster(tmp_path / "run", EXPERIMENT, resources=Resources())
    assert "complete" not in cluster.calls
    assert RunFolder(tmp_path / "run", EXPERIMENT).kept_checkpoint() is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, Ended])
def test_an_interrupted_run_ends_the_cluster_before_its_folder_is_put_in_order(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(folder: Path, *_: object) -> None:
        left(folder, "checkpoint_1")
        raise error(15)

    def settled(folder: Path) -> None:
        cluster.calls.append("settle")
        settle(folder)

    monkeypatch.setattr(module, "_train", interrupted)
    monkeypatch.setattr(module, "settle", settled)
    with pytest.raises(error):
        train_on_cluster(tmp_path / "run", EXPERIMENT, resources=Resources())
    assert cluster.calls == ["settle", "connect", "check", "end", "settle"]
    assert RunFolder(tmp_path / "run", EXPERIMENT).kept_checkpoint() is not None


def test_statistics_that_move_are_refused_for_several_workers_before_ray_starts(
    cluster: Cluster, tmp_path: Path
) -> None:
    moving = EXPERIMENT.model_copy(update={"backbone": BackboneSettings(name="RN50", batch_norm="moving")})
    with pytest.raises(InputError, match="--workers: statistics that move"):
        train_on_cluster(tmp_path / "run", moving, resources=Resources(workers=2))
    assert cluster.calls == []
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_refused_before_ray_starts(cluster: Cluster, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", EXPERIMENT)
    with pytest.raises(InputError, match="holds a run already"):
        train_on_cluster(tmp_path / "run", EXPERIMENT, resources=Resources())
    assert cluster.calls == []


def test_data_that_do_not_fit_are_refused_before_a_folder_is_made(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise InputError("no such data")

    monkeypatch.setattr(cluster_module, "run_on_every_node", refused)
    with pytest.raises(InputError, match="no such data"):
        train_on_cluster(tmp_path / "run", EXPERIMENT, resources=Resources())
    assert not (tmp_path / "run").exists()
    assert cluster.calls == ["connect"]


def test_the_last_checkpoint_is_kept_under_the_runs_own_name(cluster: Cluster, tmp_path: Path) -> None:
    del cluster
    run = RunFolder.create(tmp_path / "run", EXPERIMENT)
    left(run.folder, "checkpoint_1", "checkpoint_2")
    for _ in range(2):
        settle(run.folder)
        kept = run.kept_checkpoint()
        assert kept is not None
        assert (kept / LOG).read_text() == "checkpoint_2"
        assert {path.name for path in run.folder.iterdir()} == {CONFIG, kept.name}


@pytest.mark.parametrize("moment", ["rename", "unlink", "rmtree"])
def test_a_folder_whose_order_was_interrupted_is_put_in_order_later(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    del cluster
    run = RunFolder.create(tmp_path / "run", EXPERIMENT)
    left(run.folder, "checkpoint_1", "checkpoint_2")

    def killed(*_: object, ignore_errors: bool = False, missing_ok: bool = False) -> None:
        if not ignore_errors and not missing_ok:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "rmtree":
            patch.setattr(shutil, "rmtree", killed)
        else:
            patch.setattr(Path, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            settle(run.folder)
    settle(run.folder)
    kept = run.kept_checkpoint()
    assert kept is not None
    assert (kept / LOG).read_text() == "checkpoint_2"
    assert {path.name for path in run.folder.iterdir()} == {CONFIG, kept.name}


def test_a_run_that_saved_nothing_goes_on_from_what_it_had(cluster: Cluster, tmp_path: Path) -> None:
    del cluster
    run = RunFolder.create(tmp_path / "run", EXPERIMENT)
    run.keep_checkpoint(lambda into: into.mkdir())
    (run.folder / MARKER).write_text("")
    (run.folder / "checkpoint_half").mkdir()
    settle(run.folder)
    assert run.kept_checkpoint() is not None
    assert not (run.folder / "checkpoint_half").exists()


def test_a_folder_that_ray_train_was_not_in_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_mine").mkdir()
    settle(tmp_path)
    settle(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_mine"]


def test_the_first_workers_report_is_the_runs() -> None:
    reports: Any = Reports()
    ReportsTo(reports).after_report(None, [{"unit": 1}, {"unit": 2}], None)
    assert reports.get_nowait() == {"unit": 1}
    assert reports.empty()
