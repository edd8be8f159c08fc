"""Signals to whole sweeps, at every moment: code, one line, nothing left, and a sweep that goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.processes import processes_of, wait_until
from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tune_jobs.config.settings import EarlyStopping, Resources, StoppingKind, SweepSettings, dump_settings
from tune_jobs.state.events import Validated
from tune_jobs.state.journal import FILE, read_journal

pytestmark = [pytest.mark.ray, pytest.mark.faults]
ROOT = Path(__file__).parents[2]
WITHIN_S = 10.0
"""What is promised. This alone depends on how busy the machine is, and these tests are not part of every run."""


class Sweep:
    """A sweep's command in a session of its own, so that nothing of it is mistaken for anything else."""

    def __init__(self, where: Path, backbone: BackboneSettings) -> None:
        settings = SweepSettings(
            name="told",
            data=TINY_DATA,
            backbone=backbone,
            strategies=("linear_probe",),
            trials=2,
            budget=200,
            early_stopping=EarlyStopping(kind=StoppingKind.NONE),
            resources=Resources(concurrent=1),
            checkpoint_every_s=0.0,
            storage=where / "runs",
        )
        (where / "sweep.yaml").write_text(dump_settings(settings))
        self.log, self.folder, self._where = where / "log", where / "runs" / "told", where

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        given = arguments or (str(self._where / "sweep.yaml"), "--name", "told")
        command = [sys.executable, str(ROOT / "tune_jobs" / "sweep.py"), *given]
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def said(self, words: str) -> bool:
        return words in self.log.read_text()

    def trains(self) -> bool:
        found = self.folder / FILE
        return found.exists() and any(isinstance(event, Validated) for event in read_journal(found))


MOMENTS: dict[str, tuple[Callable[[Sweep], bool], float]] = {
    "importing": (lambda _: True, 2.0),
    "starting Ray": (lambda sweep: sweep.said("starting Ray"), 1.5),
    "preparing": (lambda sweep: sweep.said("preparing the data"), 0.2),
    "sweeping": (lambda sweep: sweep.trains(), 0.5),
}


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, True)],
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_sweep_ends_within_seconds_and_leaves_nothing_but_itself(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, moment: str, number: signal.Signals, group: bool
) -> None:
    sweep, (reached, pause_s) = Sweep(tmp_path, tiny_backbones["vit"]), MOMENTS[moment]
    process = sweep.start()
    try:
        wait_until(lambda: reached(sweep), what=moment, limit_s=LIMIT_S, every_s=0.05)
        time.sleep(pause_s)
        began = time.monotonic()
        (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(timeout=LIMIT_S)
        took = time.monotonic() - began
    finally:
        process.kill()
    wait_until(lambda: not processes_of(process.pid), what="the end of all of it", limit_s=LIMIT_S)
    said = sweep.log.read_text()
    assert code == 128 + number, said
    assert took < WITHIN_S
    assert not re.search("Traceback|logging.cc|rpc_client", said), said
    if moment != "sweeping":
        assert said.splitlines()[-1] == "interrupted"
        assert not sweep.folder.exists()
        return
    assert f"{sweep.folder} --resume" in said
    before = read_journal(sweep.folder / FILE)
    again = sweep.start(str(sweep.folder), "--resume")
    assert again.wait(timeout=LIMIT_S) == 0, sweep.log.read_text()
    assert read_journal(sweep.folder / FILE)[: len(before)] == before, "nothing of it is lost"
