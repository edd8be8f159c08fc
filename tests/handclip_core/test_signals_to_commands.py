"""Signals to whole commands, at every moment: code, one line, no traceback, no process left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from chaos.processes import processes_of, wait_until
from handclip_core.models.backbone import BackboneSettings
from tests.limits import LIMIT_S

ROOT = Path(__file__).parents[2]
BEGIN = (
    "import signal, sys\nfrom handclip_core.signals import ENDING, end_on_signals\n"
    "for number in ENDING:\n    signal.signal(number, signal.SIG_DFL)\n"
    "end_on_signals()\nfrom handclip_core.__main__ import main\nmain()"
)
"""Signals are as in a terminal: what runs these tests in the background may ignore some of them."""


class Moment(NamedTuple):
    """A command, and what is there once it has got so far; ``pause_s`` later the signals come."""

    command: str
    reached: Callable[[Path], bool]
    pause_s: float = 0.0


DRAW = "prepare drawn hands --out prepared --people 400"
MOMENTS = {
    "prepare drawn imports": Moment(DRAW, lambda _: True, 0.3),
    "prepare drawn draws": Moment(DRAW, lambda here: "drawing images" in (here / "said").read_text()),
    "train imports": Moment("train experiment.yaml --out run", lambda _: True, 0.3),
    "train trains": Moment("train experiment.yaml --out run", lambda here: "unit 1/" in (here / "said").read_text()),
    "pretrain draws": Moment("pretrain pretrain.yaml", lambda here: (here / "said").read_text() != "", 0.5),
}
SENT = {
    "SIGTERM to the group": ((signal.SIGTERM,), True),
    "SIGINT to the group": ((signal.SIGINT,), True),
    "SIGHUP to the group": ((signal.SIGHUP,), True),
    "SIGTERM to the process": ((signal.SIGTERM,), False),
    "SIGTERM to the group twice": ((signal.SIGTERM, signal.SIGTERM), True),
    "SIGINT, then SIGTERM, to the group": ((signal.SIGINT, signal.SIGTERM), True),
}
IN_EVERY_RUN = {("prepare drawn draws", "SIGTERM to the group"), ("train trains", "SIGINT to the group")}


@pytest.fixture
def here(tmp_path: Path, tiny_backbones: dict[str, BackboneSettings]) -> Path:
    """A folder with what the commands read."""
    backbone = tiny_backbones["vit"].model_dump(mode="json")
    data = {"source": "drawn", "people": 12, "images_per_aspect": 3, "height_px": 96}
    experiment = {"strategy": {"name": "full"}, "data": data, "backbone": backbone, "budget": 10_000}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump({"out": "own", "workers": 2}))
    return tmp_path


CASES = [
    pytest.param(
        moment, sent, id=f"{moment}: {sent}", marks=[] if (moment, sent) in IN_EVERY_RUN else [pytest.mark.faults]
    )
    for moment in MOMENTS
    for sent in SENT
]


@pytest.mark.parametrize(("moment", "sent"), CASES)
def test_a_command_ends_at_once_and_leaves_nothing_running(here: Path, moment: str, sent: str) -> None:
    (command, reached, pause_s), (numbers, group) = MOMENTS[moment], SENT[sent]
    log = here / "said"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, *command.split()],
            cwd=here,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        wait_until(lambda: reached(here) or process.poll() is not None, what=moment, limit_s=LIMIT_S, every_s=0.02)
        time.sleep(pause_s)
        assert process.poll() is None, f"ended before the signal: {log.read_text()}"
        for place, number in enumerate(numbers):
            time.sleep(1.2 if place else 0.0)
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(timeout=LIMIT_S)
    finally:
        process.kill()
    wait_until(lambda: not processes_of(process.pid), what="the end of all of it", limit_s=LIMIT_S)
    told = log.read_text()
    assert code == 128 + numbers[0], told
    assert not re.search("Traceback|Error|Exception", told), told
    assert told.splitlines()[-1].startswith("interrupted"), told
