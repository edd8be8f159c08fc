"""A sweep that is told to end."""

import csv
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tune_jobs.interruption import caught_signals
from tune_jobs.settings import EarlyStopping, StoppingKind, SweepSettings, dump_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts_as_ever(number: signal.Signals) -> None:
    taken: list[int] = []
    before = signal.signal(number, lambda seen, _: taken.append(seen))
    try:
        with caught_signals() as caught:
            assert not caught.is_set()
            signal.raise_signal(number)
            assert caught.is_set()
            assert taken == []
            signal.raise_signal(number)
            assert taken == [number]
        signal.raise_signal(number)
        assert taken == [number, number]
    finally:
        signal.signal(number, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        with caught_signals() as caught:
            seen.append(caught.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_that_is_told_to_end_leaves_its_leaderboard_and_the_best_so_far(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    settings = SweepSettings(
        name="endless",
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("zero_shot", "full"),
        trials=3,
        budget=100_000,
        early_stopping=EarlyStopping(kind=StoppingKind.NONE),
        storage=tmp_path,
    )
    (tmp_path / "sweep.yaml").write_text(dump_settings(settings))
    command = [sys.executable, str(ROOT / "tune_jobs" / "sweep.py"), str(tmp_path / "sweep.yaml")]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(lambda: {"complete", "running"} <= _statuses(tmp_path / "endless"))
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    assert _statuses(tmp_path / "endless") == {"complete", "interrupted"}
    assert (tmp_path / "endless" / "best" / "metrics.json").exists()
    text = (tmp_path / "log").read_text()
    assert "interrupted: what follows is the state so far" in text
    assert "Traceback" not in text


def _statuses(folder: Path) -> set[str]:
    if not (folder / "leaderboard.csv").exists():
        return set()
    with (folder / "leaderboard.csv").open() as file:
        return {row["status"] for row in csv.DictReader(file)}


def _wait_for(condition: Callable[[], bool], *, limit_s: float = 120.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
