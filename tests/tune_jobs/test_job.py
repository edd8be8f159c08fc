"""``ray job submit --working-dir . -- python tune_jobs/sweep.py`` against a cluster that is already there."""

import csv
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.processes import wait_until
from chaos.watching import is_amid_training
from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA
from tests.limits import LIMIT_S
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings, dump_settings
from tune_jobs.state.events import Begun, Closed, Retried, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.storage.lease import read_owner

ROOT = Path(__file__).parents[2]
PACKAGES = ("handclip_core", "search_spaces", "tune_jobs")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Head:
    """A running cluster of one machine."""

    folder: Path
    elsewhere: Path
    address: str
    environment: dict[str, str]

    def submit(
        self, working_dir: Path, *arguments: str, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Submit a sweep, and wait for it unless the options say otherwise."""
        command = ["submit", *options, "--working-dir", ".", "--", "python", "tune_jobs/sweep.py", *arguments]
        return self.job(*command, cwd=working_dir)

    def job(self, verb: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """``ray job VERB``."""
        return subprocess.run(
            ["ray", "job", verb, "--address", self.address, *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


@pytest.fixture(scope="module")
def head(cache_folder: Path) -> Iterator[Head]:
    """``ray start --head`` with ports, a folder and a token of its own."""
    del cache_folder
    folder, elsewhere = (Path(tempfile.mkdtemp(prefix="hc-job-")) for _ in range(2))
    port, dashboard = _free_port(), _free_port()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": str(elsewhere),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    command = ["ray", "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--temp-dir={folder}", f"--object-store-memory={80 * 2**20}"]
    command += ["--dashboard-agent-listen-port=0"]  # there may be another cluster on this machine
    with (
        (folder / "head.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        address = f"http://127.0.0.1:{dashboard}"
        try:
            _wait_until_up(address)
            yield Head(folder=folder, elsewhere=elsewhere, address=address, environment=environment)
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_S)
    for path in (folder, elsewhere):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def working_dir(tmp_path: Path) -> Path:
    """The code, beside folders that nobody wants to send."""
    here = tmp_path / "project"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", here)
    for name in (".venv", "runs", "data"):
        (here / name).mkdir()
        (here / name / "large.bin").write_bytes(b"0" * 1000)
    return here


@pytest.mark.parametrize("orphaned", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["stopped", "orphaned"])
def test_a_submitted_sweep_joins_the_cluster_and_one_that_is_stopped_or_loses_its_supervisor_goes_on(
    head: Head, working_dir: Path, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, orphaned: bool
) -> None:
    settings = SweepSettings(
        data=TINY_DATA,
        backbone=tiny_backbones["vit"],
        strategies=("full",),
        trials=2,
        budget=40,
        early_stopping=EarlyStopping(kind="none"),
        resources=Resources(concurrent=1),
        checkpoint_every_s=0.0,
        storage=tmp_path,
    )
    (working_dir / "settings.yaml").write_text(dump_settings(settings))
    folder, journal = tmp_path / "stopped", tmp_path / "stopped" / FILE
    stopped = f"stopped-before-{'the-supervisor-goes' if orphaned else 'the-end'}"  # a name is given once a cluster
    _submit_and_wait_for_training(head, working_dir, journal, "settings.yaml", "--name", "stopped", name=stopped)
    assert head.job("stop", stopped).returncode == 0
    assert "was stopped" in head.job("status", stopped).stdout
    events = read_journal(journal)
    assert isinstance(events[-1], Closed), "the driver had no time to end by itself"
    submit = f"ray job submit --working-dir . -- python tune_jobs/sweep.py {folder} --resume"
    assert submit in head.job("logs", stopped).stdout
    if orphaned:
        _submit_and_wait_for_training(head, working_dir, journal, str(folder), "--resume", name="to-be-orphaned")
        driver = _driver_of(folder)
        os.kill(_supervisor_of(driver), signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{driver}/cmdline").exists(), what="the end of the driver", limit_s=LIMIT_S)
    done = head.submit(working_dir, str(folder), "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("was ended with its job to-be-orphaned: The actor" in done.stdout) == orphaned
    assert "2/2  trial" in done.stdout
    later = [event.trial for event in read_journal(journal)[len(events) :] if isinstance(event, Begun)]
    assert {event.trial for event in events if isinstance(event, Begun)}.isdisjoint(later)
    with (folder / "leaderboard.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file) if row["trial"]] == ["complete"] * 2
    assert (folder / "best" / "metrics.json").exists()
    assert not [event for event in read_journal(journal) if isinstance(event, Retried)]
    sent = head.folder.glob("session_*/runtime_resources/working_dir_files/_ray_pkg_*")
    assert {path.name for folder in sent if folder.is_dir() for path in folder.iterdir()} == {
        *PACKAGES, ".gitignore", "settings.yaml",
    }  # fmt: skip
    assert not list(head.elsewhere.glob("session_*")), "a second cluster was started"


def test_a_job_without_storage_that_outlives_it_is_refused(head: Head, working_dir: Path) -> None:
    refused = head.submit(working_dir)
    assert refused.returncode != 0
    assert "error: storage: 'runs' would lie in the job's own folder" in refused.stdout
    assert "Traceback" not in refused.stdout


def _submit_and_wait_for_training(head: Head, working_dir: Path, journal: Path, *arguments: str, name: str) -> None:
    before = len(read_journal(journal))
    begun = head.submit(working_dir, *arguments, options=["--no-wait", "--submission-id", name])
    assert begun.returncode == 0, begun.stderr

    def trains() -> bool:
        events = read_journal(journal)
        return is_amid_training(events) and any(isinstance(event, Validated) for event in events[before:])

    wait_until(trains, what="a trial amid its training", limit_s=LIMIT_S, every_s=0.3)


def _driver_of(folder: Path) -> int:
    owner = read_owner(folder)
    assert owner is not None
    return owner.pid


def _supervisor_of(pid: int) -> int:
    """The process of Ray that started a driver, maybe through a shell."""
    while "JobSupervisor" not in Path(f"/proc/{pid}/cmdline").read_text():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_until_up(address: str, *, limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5)
        except urllib.error.HTTPError:
            return  # it answers, and asks for the token
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"no cluster at {address}")
