"""A sweep that is told to end."""

import csv
import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from chaos.processes import wait_until
from chaos.watching import is_amid_training
from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tests.warm_workers import for_drivers
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings, dump_settings, load_settings
from tune_jobs.execution import searcher as session
from tune_jobs.execution import signals as service_signals
from tune_jobs.execution import tune_run
from tune_jobs.execution.signals import sigterm_stays_the_drivers, stop_on_signals
from tune_jobs.execution.trainable import HandTrial, trial_config
from tune_jobs.lifecycle import run as driver
from tune_jobs.state.events import Validated
from tune_jobs.state.journal import FILE, read_journal

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_a_later_one_acts_as_ever(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    before = signal.signal(number, lambda seen, _: taken.append(seen))
    try:
        with stop_on_signals() as caught:
            assert not caught.is_set()
            signal.raise_signal(number)
            assert caught.is_set()
            signal.raise_signal(number)
            assert taken == [], "the same one again, as `timeout` sends it"
            monkeypatch.setattr(service_signals, "SAME_S", 0.0)
            signal.raise_signal(number)
            assert taken == [number]
        signal.raise_signal(number)
        assert taken == [number, number]
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_on_signals() as caught:
            seen.append(caught.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_sigterm_stays_pythons_though_ray_takes_it_away_in_another_thread() -> None:
    taken: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda seen, _: taken.append(seen))
    with sigterm_stays_the_drivers():
        own = ctypes.pythonapi.PyOS_getsig(signal.SIGTERM)

    def end() -> None:
        with sigterm_stays_the_drivers():
            ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, None)
            wait_until(lambda: ctypes.pythonapi.PyOS_getsig(signal.SIGTERM) == own, what="SIGTERM", limit_s=LIMIT_S)
            ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, None)

    try:
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        assert ctypes.pythonapi.PyOS_getsig(signal.SIGTERM) == own
        signal.raise_signal(signal.SIGTERM)
        assert taken == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


class Stuck(HandTrial):
    """Does not come back from the second unit of the third trial, the first time that it is tried."""

    def step(self) -> dict[str, Any]:
        marker = Path(self.config["marks"]) / "stuck"
        if self.config["number"] == 2 and self._last is not None and not marker.exists():
            marker.touch()
            time.sleep(LIMIT_S)
            marker.with_name("came back").touch()
        return super().step()


def of_three_strategies(
    backbones: dict[str, BackboneSettings], storage: Path, *, trials: int = 5, budget: int = 3
) -> SweepSettings:
    return SweepSettings(
        name="three",
        data=TINY_DATA,
        backbone=backbones["vit"],
        strategies=("zero_shot", "linear_probe", "full"),
        trials=trials,
        budget=budget,
        early_stopping=EarlyStopping(grace=1),
        resources=Resources(concurrent=1),
        checkpoint_every_s=0.0,
        storage=storage,
    )


@pytest.mark.ray
@pytest.mark.faults
def test_a_worker_deep_in_a_step_does_not_hold_the_end_up_and_the_sweep_resumes_as_if_it_had_not_ended(
    ray_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del ray_cluster
    swept = of_three_strategies(tiny_backbones, tmp_path)
    folder = tmp_path / "three"

    @contextmanager
    def once_stuck() -> Iterator[threading.Event]:
        wanted = threading.Event()

        def watch() -> None:
            wait_until((tmp_path / "stuck").exists, what="a worker deep in a step", limit_s=LIMIT_S)
            wanted.set()

        threading.Thread(target=watch).start()
        yield wanted

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with monkeypatch.context() as patch:
        patch.setattr(tune_run, "HandTrial", Stuck)
        patch.setattr(driver, "stop_on_signals", once_stuck)
        patch.setattr(session, "trial_config", lambda *a, **k: trial_config(*a, **k) | {"marks": str(tmp_path)})
        ended = driver.sweep(swept)
    assert ended.exit_code == 130
    assert not (tmp_path / "came back").exists(), "the driver waited for the worker"
    assert f"{folder} --resume" in capsys.readouterr().out
    assert _statuses(folder) == {"complete", "interrupted"}
    assert not (folder / "best").exists()

    resumed = driver.resume(load_settings(folder / "sweep.yaml"), folder)
    undisturbed = driver.sweep(of_three_strategies(tiny_backbones, tmp_path / "undisturbed"))
    assert resumed.exit_code == 0
    assert _scores(resumed) == _scores(undisturbed)
    assert resumed.all_trials.trials[2].attempts == 2
    assert (folder / "best" / "metrics.json").exists()


def _scores(outcome: driver.Outcome) -> list[Any]:
    return [(r.number, r.params, r.status, r.curve, r.score, r.unit) for r in outcome.all_trials.all()]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["told", "killed too"])
def test_a_command_that_is_killed_or_told_to_end_is_taken_up_by_the_one_that_it_prints(
    worker_python: str,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,
) -> None:
    for name, value in for_drivers(worker_python).items():
        monkeypatch.setenv(name, value)
    settings = of_three_strategies(tiny_backbones, tmp_path, trials=3, budget=40)
    (tmp_path / "sweep.yaml").write_text(dump_settings(settings))
    sweep = [sys.executable, str(ROOT / "tune_jobs" / "sweep.py")]
    folder, log = tmp_path / "three", tmp_path / "log"
    resume = [*sweep, str(folder), "--resume"]
    command = [*sweep, str(tmp_path / "sweep.yaml")]
    if killed:
        assert _sent(command, signal.SIGKILL, folder, log) == -signal.SIGKILL
        assert "Traceback" not in log.read_text()
        command = resume
    assert _sent(command, signal.SIGTERM, folder, log) == 143
    assert "Traceback" not in log.read_text()
    assert f"{folder} --resume" in log.read_text()
    with log.open("a") as file:
        done = subprocess.run(resume, stdout=file, stderr=file, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, log.read_text()
    assert _statuses(folder) <= {"complete", "stopped"}
    assert (folder / "best" / "metrics.json").exists()


def _sent(command: list[str], number: signal.Signals, folder: Path, log: Path) -> int:
    """The exit code of a sweep's command that gets a signal while a trial of its own is amid training."""
    before = len(read_journal(folder / FILE)) if folder.exists() else 0

    def trains() -> bool:
        events = read_journal(folder / FILE)
        return is_amid_training(events) and any(isinstance(event, Validated) for event in events[before:])

    with log.open("a") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            wait_until(trains, what="a trial amid its training", limit_s=LIMIT_S)
            process.send_signal(number)
            return process.wait(timeout=LIMIT_S)
        finally:
            process.kill()


def _statuses(folder: Path) -> set[str]:
    if not (folder / "leaderboard.csv").exists():
        return set()
    with (folder / "leaderboard.csv").open() as file:
        return {row["status"] for row in csv.DictReader(file) if row["trial"]}
