"""Servers of forked workers for the clusters of the tests, whose drivers do not fork one of their own.

Ray may be told which Python runs its workers: here one that asks a server for a fork, which has torch and open_clip
imported already.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from handclip_core.warm_python import command_of, fork_server
from tune_jobs import PRELOADED

ROOT = Path(__file__).parents[1]
PYTHON = "HANDCLIP_TEST_PYTHON"
SERVER = "HANDCLIP_TEST_SERVER"
"""Environment variable of a node that has a server of its own: its address."""
LAUNCHER = (sys.executable, "-m", __name__, "launch")
"""Put before the command that starts a node, gives it a server of its own, whose forks end with the node's session."""


@contextmanager
def warm_workers() -> Iterator[str]:
    """While the body runs, the command that stands in for ``python`` where Ray starts workers."""
    with tempfile.TemporaryDirectory(prefix="hc-warm-") as folder:  # pytest's own folders make socket names too long
        address = str(Path(folder) / "socket")
        command = [sys.executable, "-m", __name__, "serve", address]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            server.stdout.readline()
            yield command_of(address)


def for_drivers(python: str) -> dict[str, str]:
    """Environment variables that let a program's workers be run by ``python``."""
    return {"RAY_RUNTIME_ENV_HOOK": f"{__name__}.with_python", PYTHON: python}


def with_python(runtime_env: dict[str, object] | None) -> dict[str, object]:
    """What Ray calls in a program that has these variables."""
    return {**(runtime_env or {}), "py_executable": os.environ[PYTHON]}


def launch(command: list[str]) -> NoReturn:
    """Become ``command``, with a server beside it for as long as it runs."""
    os.environ[SERVER] = str(Path(tempfile.gettempdir()) / "warm")
    _, held = fork_server(os.environ[SERVER], PRELOADED)
    os.set_inheritable(held, True)
    os.execvp(command[0], command)


def serve(address: str) -> None:
    """Have a server until the standard input is closed."""
    fork_server(address, PRELOADED)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "launch":
        launch(words)
    else:
        serve(*words)
