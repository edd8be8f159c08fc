"""Signals to whole sweeps and finals, at every moment: code, one line, nothing left, and what goes on."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tests.signalled import SENT, Running, end_at
from tune_jobs.config.settings import EarlyStopping, Resources, StoppingKind, SweepSettings, dump_settings
from tune_jobs.state.events import Validated
from tune_jobs.state.journal import FILE, read_journal

pytestmark = [pytest.mark.ray, pytest.mark.faults]
ROOT = Path(__file__).parents[2]
LATER = ("SIGTERM to the group", "SIGINT, then SIGTERM, to the group")
"""What is sent in moments that are like others."""
ONCE = [sent for sent in SENT if "," not in sent and "twice" not in sent]


class Sweep:
    """A sweep's commands and folder."""

    def __init__(self, where: Path, backbone: BackboneSettings, *, budget: int = 200) -> None:
        settings = SweepSettings(
            name="told",
            data=TINY_DATA,
            backbone=backbone,
            strategies=("linear_probe",),
            trials=2,
            budget=budget,
            early_stopping=EarlyStopping(kind=StoppingKind.NONE),
            resources=Resources(concurrent=1),
            checkpoint_every_s=0.0,
            storage=where / "runs",
        )
        (where / "sweep.yaml").write_text(dump_settings(settings))
        self.folder, self.where = where / "runs" / "told", where
        program = [sys.executable, str(ROOT / "tune_jobs" / "sweep.py")]
        self.begin = [*program, str(where / "sweep.yaml"), "--name", "told"]
        self.resume = [*program, str(self.folder), "--resume"]
        finals = [sys.executable, str(ROOT / "tune_jobs" / "finalists.py"), "told", "--storage", str(where / "runs")]
        self.finals = [*finals, "--top", "1", "--seeds", "2", "--final-test"]

    def end_at(self, moment: str, reached: Callable[[Running], bool], sent: str, command: list[str]) -> str:
        """What a command of the sweep says that is sent signals at a moment."""
        return end_at(moment, reached, sent, command, log=self.where / "log", folder=self.where)


def run(command: list[str]) -> str:
    """What a command says, which has to come to its end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trains(folder: Path) -> bool:
    """Whether a run in ``folder`` has a result."""
    found = folder / FILE
    return found.exists() and any(isinstance(event, Validated) for event in read_journal(found))


MOMENTS: dict[str, Callable[[Running], bool]] = {
    "importing": lambda running: running.imports("numpy"),
    "starting Ray": lambda running: running.runs("gcs_server"),
    "preparing": lambda running: running.said("preparing the data"),
    "sweeping": lambda running: trains(running.folder / "runs" / "told"),
}


@pytest.mark.parametrize("sent", ONCE)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_sweep_ends_within_seconds_and_leaves_nothing_but_itself(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, moment: str, sent: str
) -> None:
    sweep = Sweep(tmp_path, tiny_backbones["vit"])
    said = sweep.end_at(moment, MOMENTS[moment], sent, sweep.begin)
    if moment != "sweeping":
        assert said.splitlines()[-1] == "interrupted"
        assert not sweep.folder.exists()
        return
    assert "runs/told --resume" in said
    before = read_journal(sweep.folder / FILE)
    run(sweep.resume)
    assert read_journal(sweep.folder / FILE)[: len(before)] == before, "nothing of it is lost"


@pytest.fixture(scope="module")
def swept(tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that has come to its end."""
    sweep = Sweep(tmp_path_factory.mktemp("swept"), tiny_backbones["vit"], budget=20)
    run(sweep.begin)
    return sweep


@pytest.mark.parametrize("sent", LATER)
def test_while_the_winner_is_exported(swept: Sweep, sent: str) -> None:
    shutil.rmtree(swept.folder / "best")
    before = read_journal(swept.folder / FILE)
    said = swept.end_at("exporting", lambda it: it.said("exporting the winner"), sent, swept.resume)
    assert "runs/told --resume" in said
    run(swept.resume)
    assert (swept.folder / "best" / "metrics.json").exists()
    assert read_journal(swept.folder / FILE)[: len(before)] == before


@pytest.fixture(scope="module")
def held(swept: Sweep) -> Sweep:
    """A sweep whose finals have come to their end."""
    run(swept.finals)
    return swept


FINALS: dict[str, tuple[str, Callable[[Running], bool]]] = {
    "training": ("", lambda it: trains(it.folder / "runs" / "told" / "finals")),
    "mixing": ("soups", lambda it: it.said("mixing the weights")),
    "scoring the baselines": ("baselines", lambda it: it.said("scoring the baselines")),
    "the final test": ("model", lambda it: it.said("opening the test identities")),
}
"""Moments of finals: what is removed of those that were held, so that it is done again, and how the moment is known."""


@pytest.mark.parametrize("sent", LATER)
@pytest.mark.parametrize("moment", FINALS)
def test_in_finals(held: Sweep, moment: str, sent: str) -> None:
    removed, reached = FINALS[moment]
    shutil.rmtree(held.folder / "finals" / removed)
    said = held.end_at(moment, reached, sent, held.finals)
    assert "go on with" in said
    assert " ".join(held.finals) in said
    run(held.finals)
