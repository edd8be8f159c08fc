"""Trials of several processes: the same results as of one, and none is lost with a process."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import EarlyStopping, SweepSettings
from tune_jobs.lifecycle.run import Outcome, sweep
from tune_jobs.state.events import Started, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trials import Status

pytestmark = pytest.mark.ray


def settings(backbones: dict[str, BackboneSettings], storage: Path, **changed: Any) -> SweepSettings:
    values: dict[str, Any] = {
        "name": "workers",
        "data": TINY_DATA,
        "backbone": backbones["vit"],
        "strategies": ("linear_probe", "full"),
        "trials": 3,
        "budget": 2,
        "early_stopping": EarlyStopping(kind="none"),
        "storage": storage,
    }
    return SweepSettings(**values | changed)


def curves(outcome: Outcome) -> list[list[float]]:
    return [list(record.curve.values()) for record in sorted(outcome.records.all(), key=lambda one: one.number)]


def test_two_workers_give_the_scores_of_one(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    alone = sweep(settings(tiny_backbones, tmp_path / "one", resources={"concurrent": 1}))
    shared = sweep(settings(tiny_backbones, tmp_path / "two", resources={"workers": 2}))
    assert [len(curve) for curve in curves(shared)] == [2, 2, 2]
    for one, two in zip(curves(alone), curves(shared), strict=True):
        assert two == pytest.approx(one, abs=2e-3)


def test_a_trial_that_loses_a_companion_goes_on_from_its_checkpoint(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    wanted = settings(
        tiny_backbones,
        tmp_path,
        strategies=("full",),
        trials=1,
        budget=12,
        resources={"workers": 2},
        checkpoint_every_s=0.0,
    )
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_companion, args=(tmp_path / "workers", killed))
    killer.start()
    outcome = sweep(wanted)
    killer.join()
    (record,) = outcome.records.all()
    assert killed, "the trial was over before anything could be killed"
    assert record.status is Status.COMPLETE
    assert record.attempts > 1
    assert list(record.curve) == list(range(1, 13))
    events = read_journal(tmp_path / "workers" / FILE)
    last = max(place for place, event in enumerate(events) if isinstance(event, Started))
    assert next(event.unit for event in events[last:] if isinstance(event, Validated)) > 1


def kill_a_companion(folder: Path, killed: list[int]) -> None:
    """Once the trial has validated some units, end one of its companions."""
    journal = folder / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count('"saved"') >= 2:
            break
        time.sleep(0.05)
    for pid in companions():
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


def companions() -> list[int]:
    """Processes that train along, of this test session alone."""
    ours = f"HANDCLIP_CACHE={os.environ['HANDCLIP_CACHE']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Companion") and ours in environment.split(b"\0"):
            found.append(int(process.name))
    return found
