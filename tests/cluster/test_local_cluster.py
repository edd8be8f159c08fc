"""``cluster/local/cluster.sh`` starts real nodes, and ends what it started and nothing else."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.limits import LIMIT_S

SCRIPT = Path(__file__).parents[2] / "cluster" / "local" / "cluster.sh"
JOIN = "from tune_jobs.execution.cluster import connect; connect()"
COUNT = "import ray; ray.init(logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A folder of its own for the cluster, short since the names of sockets are limited, and a narrow terminal."""
    parent = Path(tempfile.mkdtemp(prefix="hc-"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield os.environ | {"PATH": path, "HANDCLIP_LOCAL": str(parent / "c"), "COLUMNS": "60"}
    shutil.rmtree(parent)


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def processes_with(text: str) -> list[str]:
    """Command lines of running processes in which ``text`` stands."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            lines.append(file.read_text().replace("\0", " "))
    return [line for line in lines if text in line]


@pytest.mark.ray
@pytest.mark.slow
def test_two_nodes_come_up_behind_a_token_and_leave_nothing_behind(environment: dict[str, str]) -> None:
    folder = Path(environment["HANDCLIP_LOCAL"])
    started = run(environment, "start", "2")
    try:
        assert started.returncode == 0, started.stderr
        assert (folder / "token").stat().st_mode & 0o77 == 0
        assert "exists: run 'cluster/local/cluster.sh stop' first" in run(environment, "start").stderr
        words = [word for word in shlex.split(run(environment, "env").stdout) if "=" in word]
        inside = environment | dict(word.split("=", 1) for word in words)
        assert python(COUNT, inside).stdout.strip() == "2"
        stranger = inside | {"RAY_AUTH_TOKEN_PATH": str(folder / "another")}
        (folder / "another").write_text("0" * 64)
        assert python(COUNT, stranger).returncode != 0
        unaware = {name: value for name, value in inside.items() if name != "RAY_AUTH_MODE"}
        for refused in (stranger, unaware):
            assert re.search("InputError: RAY_ADDRESS=.*: wants a token", python(JOIN, refused).stderr)
        with subprocess.Popen(["sleep", "300"]) as innocent:
            # Numbers of processes are used again: one that is somebody else's by now must live on.
            with (folder / "pids").open("a") as pids:
                pids.write(f"{innocent.pid}\n")
            stopped = run(environment, "stop")
            assert innocent.poll() is None
            innocent.terminate()
        assert stopped.returncode == 0, stopped.stderr
    finally:
        if folder.exists():
            run(environment, "stop")
    assert not folder.exists()
    assert processes_with(str(folder)) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "usage:"),
        (("start", "none"), 2, "usage:"),
        (("stop",), 1, "no cluster in"),
        (("env",), 1, "run 'cluster/local/cluster.sh start' first"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    environment: dict[str, str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(environment, *arguments)
    assert done.returncode == code
    assert message in done.stderr


def python(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
