"""From settings to a finished sweep, with all that needs a cluster made up: order, refusals, and how it ends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handclip_core.errors import InputError
from handclip_core.strategies import Full
from tests.tune_jobs.made_up import metrics
from tests.tune_jobs.scheduling.test_low_memory import NODE, TOLD
from tests.tune_jobs.simulated import ROOM, settings
from tests.tune_jobs.simulation import Clock
from tune_jobs.config.settings import SETTINGS, EarlyStopping, SweepSettings, load_settings
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import TrialMonitor
from tune_jobs.execution.signals import Interrupted
from tune_jobs.lifecycle import run as driver
from tune_jobs.lifecycle.run import INTERRUPTED, Outcome, prepare, resume, run_to_the_end, sweep
from tune_jobs.state.events import Event
from tune_jobs.state.journal import FILE
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials
from tune_jobs.storage.lease import SweepLease


def tried(swept: SweepSettings, *, saved: bool) -> Trials:
    """A trial with a score, whose weights can be exported if they were ``saved``."""
    view = TrialView(0, "full", {}, swept.experiment(Full(), swept.backbones[0]))
    view.metrics, view.best_unit = metrics(0.5), 1
    if saved:
        view.checkpoint, view.saved_unit = "trials/0000-full/checkpoint_0", 1
    return Trials({0: view})


class Driver:
    """The parts of a driver, which note what is done with them, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.calls: list[str] = []
        self.settings = settings(folder.parent, name=folder.name)
        self.folder, self.monkeypatch = folder, monkeypatch
        self.all_trials = Trials()
        self.ended_by: str | None = None
        self.happened: list[Event] = []
        self.lease: Any = SimpleNamespace(lost=threading.Event(), former=None)
        self.export_fails: BaseException | None = None
        monkeypatch.setattr(driver, "build", self.build)
        self.run_trials(lambda: None)
        for name in ("caller_after_trials", "end_meanwhile"):
            monkeypatch.setattr(cluster, name, lambda *_, **__: (None, 1))
        monkeypatch.setattr(driver, "export_best_left", self.export)
        monkeypatch.setattr(driver, "mixtures", lambda *_: ())
        monkeypatch.setattr(driver, "write_best_logs", lambda *_: None)

    def run_trials(self, trials: Any) -> None:
        """Let ``trials`` be what happens while Tune runs."""

        def run(*_: object, **__: object) -> None:
            self.calls.append("trials")
            trials()

        self.monkeypatch.setattr(driver, "run_trials", run)

    @contextmanager
    def build(self, *_: object, stop_requested: Any, **__: object) -> Iterator[Any]:
        self.stop_requested = stop_requested
        closed = SimpleNamespace(close=lambda reason: self.calls.append(f"close {reason!r}"))
        monitor = SimpleNamespace(excluded_nodes=lambda: (), release=lambda: None)
        yield SimpleNamespace(
            all_trials=self.all_trials, folder=self.folder, callback=closed, monitor=monitor, scheduler=None,
            searcher=SimpleNamespace(ended_by=self.ended_by), display=SimpleNamespace(shown=nullcontext),
            state=SimpleNamespace(happened=self.happened.append, clock=Clock(5.0)),
            exports=SimpleNamespace(show_best=lambda _: self.calls.append("shown")),
        )  # fmt: skip
        self.calls.append("left")

    def export(self, *_: object, **__: object) -> None:
        self.calls.append("export")
        if self.export_fails is not None:
            raise self.export_fails

    def run(self, proposer: Any = None) -> Outcome:
        return run_to_the_end(self.settings, ROOM, self.folder, self.lease, proposer)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    return Driver(monkeypatch, tmp_path / "swept")


def test_the_best_is_exported_before_the_sweep_is_said_to_be_over(made_up: Driver) -> None:
    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.ended_by = "limits.hours: 3"
    found = made_up.run()
    assert made_up.calls == ["trials", "export", "shown", "close 'limits.hours: 3'", "left"]
    assert (found.reason, found.exported, found.exit_code) == ("limits.hours: 3", True, 0)


def test_without_a_trial_that_can_be_exported_the_sweep_has_no_result(made_up: Driver) -> None:
    made_up.all_trials = tried(made_up.settings, saved=False)
    found = made_up.run()
    assert made_up.calls == ["trials", "close ''", "left"]
    assert (found.reason, found.exit_code) == ("", 1)


def test_an_interrupted_sweep_is_left_in_order_and_exports_nothing(made_up: Driver) -> None:
    def interrupted() -> None:
        raise Interrupted

    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.run_trials(interrupted)
    found = made_up.run()
    assert made_up.calls == ["trials", "close 'interrupted'", "left"]
    assert (found.reason, found.exit_code) == (INTERRUPTED, 130)


def test_one_that_is_interrupted_amid_its_export_is_not_over(made_up: Driver) -> None:
    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.export_fails = KeyboardInterrupt()
    found = made_up.run()
    assert made_up.calls == ["trials", "export", "close 'interrupted'", "left"]
    assert found.exit_code == 130


def test_weights_that_cannot_be_read_are_one_line_and_no_result(
    made_up: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.export_fails = InputError("no weights are left")
    found = made_up.run()
    assert capsys.readouterr().err == "error: no weights are left\n"
    assert made_up.calls == ["trials", "export", "close ''", "left"]
    assert (found.reason, found.exported, found.exit_code) == ("", False, 1)


def test_of_a_fixed_list_nothing_is_exported(made_up: Driver) -> None:
    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.run(proposer="a list")
    assert made_up.calls == ["trials", "close ''", "left"]


def test_a_sweep_that_another_driver_has_taken_over_is_neither_exported_nor_closed(made_up: Driver) -> None:
    def taken_over() -> None:
        assert not made_up.stop_requested()
        made_up.lease.lost.set()
        assert made_up.stop_requested(), "Tune's steps end too"
        raise Interrupted

    made_up.all_trials = tried(made_up.settings, saved=True)
    made_up.run_trials(taken_over)
    with pytest.raises(InputError, match="another driver has taken this sweep over"):
        made_up.run()
    assert made_up.calls == ["trials"]


def test_mixtures_are_written_down_only_if_they_are_asked_for(made_up: Driver) -> None:
    made_up.all_trials = tried(made_up.settings, saved=True)
    for asked in (False, True):
        made_up.settings = made_up.settings.model_copy(update={"mixtures": asked})
        made_up.run()
        assert [event.event for event in made_up.happened] == ["mixed"] * asked


def test_of_a_sweep_in_a_rays_job_it_is_told_what_ended_the_one_before(
    made_up: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def why_ended(job: str) -> str:
        asked.append(job)
        return ""

    monkeypatch.setattr(driver, "why_ended", why_ended)
    for job in ("", "job-7"):
        made_up.lease.former = SimpleNamespace(job=job)
        made_up.run()
    assert asked == ["job-7"]


class Prepared:
    """What is prepared, or refused, in the place of a cluster; and what is run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refusal: InputError | None = None
        monkeypatch.setattr(driver, "fitted", lambda given: given)
        monkeypatch.setattr(driver, "prepare", self.prepare)
        monkeypatch.setattr(driver, "_run", self.run)

    def prepare(self, given: SweepSettings) -> TrialResources:
        self.calls.append(("prepare", given.name))
        if self.refusal is not None:
            raise self.refusal
        return ROOM

    def run(self, given: SweepSettings, _: object, folder: Path, lease: SweepLease) -> Outcome:
        self.calls.append(("run", (given.name, given.trials)))
        assert not lease.lost.is_set()
        return Outcome(folder, Trials(), "")


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Prepared:
    return Prepared(monkeypatch)


def test_a_name_that_is_taken_is_refused_before_ray_starts_or_numbered(prepared: Prepared, tmp_path: Path) -> None:
    swept = settings(tmp_path)
    assert sweep(swept).folder == tmp_path / "simulated"
    prepared.calls.clear()
    with pytest.raises(InputError, match="simulated"):
        sweep(swept)
    assert prepared.calls == []
    found = sweep(swept, number_taken_names=True)
    assert found.folder != tmp_path / "simulated"
    assert prepared.calls[-1] == ("run", (found.folder.name, 9)), "the sweep is called as its folder"
    assert load_settings(tmp_path / "simulated" / SETTINGS).trials == 9


def test_a_cluster_on_which_no_trial_fits_leaves_no_folder(prepared: Prepared, tmp_path: Path) -> None:
    prepared.refusal = InputError("no node is large enough")
    with pytest.raises(InputError, match="large enough"):
        sweep(settings(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("grace", "said"), [(4, False), (5, True), (6, True)])
def test_early_stopping_that_can_stop_nothing_is_told(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str], grace: int, said: bool
) -> None:
    del prepared
    sweep(settings(tmp_path, early_stopping=EarlyStopping(grace=grace), budget=5))
    told = f"no trial is stopped early: early_stopping.grace is {grace}, the budget 5\n"
    assert (told in capsys.readouterr().out) is said


def test_a_sweep_is_taken_up_with_new_settings(prepared: Prepared, tmp_path: Path) -> None:
    swept = settings(tmp_path)
    folder = sweep(swept).folder
    resume(swept.model_copy(update={"trials": 12}), folder)
    assert prepared.calls[-1] == ("run", ("simulated", 12))
    assert load_settings(folder / SETTINGS).trials == 12


@pytest.mark.parametrize("damaged", [True, False])
def test_a_sweep_that_cannot_be_taken_up_keeps_the_settings_it_had(
    prepared: Prepared, tmp_path: Path, damaged: bool
) -> None:
    swept = settings(tmp_path)
    folder = sweep(swept).folder
    prepared.calls.clear()
    if damaged:
        (folder / FILE).write_text("no journal\n")
    else:
        prepared.refusal = InputError("no node is large enough")
    with pytest.raises(InputError):
        resume(swept.model_copy(update={"trials": 12}), folder)
    assert load_settings(folder / SETTINGS).trials == 9
    assert [name for name, _ in prepared.calls] == ([] if damaged else ["prepare"]), "damage needs no cluster"


@pytest.mark.parametrize(("address", "said"), [(None, "starting Ray"), ("10.0.0.1:6379", "cluster at 10.0.0.1:6379")])
def test_nodes_prepare_the_data_once_it_is_known_that_trials_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str | None, said: str
) -> None:
    calls: list[str] = []

    def noted(name: str, value: Any) -> Any:
        def call(*_: object) -> Any:
            calls.append(name)
            return value

        return call

    for name, value in (
        ("connect", None), ("wait_for_node", None), ("nodes", []), ("fit_trials", replace(ROOM, concurrent=3)),
        ("run_on_every_node", None),
    ):  # fmt: skip
        monkeypatch.setattr(cluster, name, noted(name, value))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert prepare(settings(tmp_path)).concurrent == 3
    assert calls == ["connect", "wait_for_node", "nodes", "fit_trials", "run_on_every_node"]
    told = capsys.readouterr().out
    assert said in told
    assert "3 trials at a time on cpu, 1 threads each" in told


def test_after_a_driver_that_went_with_a_node_low_on_memory_that_node_begins_with_one_trial_fewer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "why_ended", {"mine": TOLD, "unheard-of": ""}.__getitem__)
    left: dict[str, int] = {}
    nodes: Any = SimpleNamespace(hold=lambda node_id, leave: left.update({node_id: leave}), places=lambda _: 3)
    monitor = TrialMonitor(Trials(), nodes, 60.0, lambda: 1e9)
    trial_resources = TrialResources(device="cpu", cpus=1, gpus=0.0, concurrent=6, num_nodes=2)
    driver._tell_what_ended("mine", monitor, trial_resources)
    assert left == {NODE: 2}
    assert capsys.readouterr().out == (
        "the driver before this one was ended with its job mine: "
        "node low on memory (3.1 of 23.5 GiB used, 3.0 allowed)\n"
    )
    driver._tell_what_ended("unheard-of", monitor, ROOM)
    assert capsys.readouterr().out == ""
