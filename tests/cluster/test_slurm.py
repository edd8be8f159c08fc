"""The sbatch script against stand-ins for Slurm's commands: two nodes on this machine, a job, a signal."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "cluster" / "slurm" / "sweep.sbatch"
SRUN = """#!/usr/bin/env bash
# Runs the command on this machine, which stands for every node.
while [[ "$1" == --* ]]; do shift; done
if [ "$1" = hostname ]; then echo "::1 127.0.0.1"; else exec "$@"; fi
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1 $2" = "show hostnames" ] && tr , '\\n' <<< "$3"
"""
ENTRYPOINT = """
import signal, sys, time
import ray

def save(number, frame):
    print("saved by signal", number, flush=True)
    sys.exit(130)

signal.signal(signal.SIGINT, save)
ray.init(logging_level="ERROR")
print("nodes", len(ray.nodes()), "processors", ray.cluster_resources()["CPU"], "arguments", *sys.argv[1:], flush=True)
time.sleep(600 if sys.argv[2] == "wait" else 0)
"""


@dataclass(frozen=True)
class Submission:
    """A folder as the script finds it under Slurm, and the environment that Slurm sets."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, send_after: str | None = None) -> tuple[int, str]:
        """Exit code and output; SIGUSR1 is sent after a line that begins with ``send_after``."""
        lines = []
        with subprocess.Popen(
            ["bash", str(self.folder / "spool"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            limit = threading.Timer(500, process.terminate)
            limit.start()
            for line in process.stdout:
                lines.append(line)
                if send_after is not None and line.startswith(send_after):
                    process.send_signal(signal.SIGUSR1)
            limit.cancel()
        return process.returncode, "".join(lines)


@pytest.fixture
def submission() -> Iterator[Submission]:
    """The script is run from a copy elsewhere, as Slurm does."""
    folder = Path(tempfile.mkdtemp(prefix="hc-slurm-"))
    shutil.copytree(ROOT / "cluster", folder / "cluster")
    shutil.copy(SBATCH, folder / "spool")
    (folder / "entrypoint.py").write_text(ENTRYPOINT)
    (folder / "bin").mkdir()
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    yield Submission(
        folder,
        {
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "node1,node2",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_SUBMIT_DIR": str(folder),
            "HANDCLIP_ENTRYPOINT": "python entrypoint.py",
        },
    )
    shutil.rmtree(folder)


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.slow
def test_a_signal_of_slurm_stops_the_job_on_two_nodes_and_leaves_nothing_behind(submission: Submission) -> None:
    code, output = submission.run("settings.yaml", "wait", "/shared/runs", send_after="nodes 2 ")
    assert "nodes 2 processors 2.0 arguments settings.yaml wait /shared/runs" in output
    assert "saved by signal 2" in output
    assert "the same sbatch line goes on with it" in output
    assert code == 130
    assert not list((submission.folder / "home" / ".handclip-slurm").iterdir())
    assert not list(Path("/tmp").glob(f"hc-{submission.environment['SLURM_JOB_ID']}-*"))


@pytest.mark.ray
@pytest.mark.faults
def test_the_exit_code_is_that_of_the_job(submission: Submission) -> None:
    (submission.folder / "entrypoint.py").write_text("raise SystemExit('no such settings')")
    submission.environment["SLURM_JOB_NODELIST"] = "node1"
    code, output = submission.run("settings.yaml", "name", "/shared/runs")
    assert code == 1, output
    assert "no such settings" in output


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("settings.yaml",), {}, "usage: sbatch"),
        (("settings.yaml", "name", "/shared"), {"SLURM_SUBMIT_DIR": "/"}, "/ is not the repository's root"),
        (("settings.yaml", "name", "/shared"), {"PATH": "/usr/bin:/bin"}, "run 'make setup' in"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    submission: Submission, arguments: tuple[str, ...], changes: dict[str, str], message: str
) -> None:
    code, output = Submission(submission.folder, submission.environment | changes).run(*arguments)
    assert code == 2
    assert message in output
