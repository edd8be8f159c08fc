"""Workers of Ray that are forked from a process which has imported torch and open_clip already.

These imports take most of the time of a new worker. Ray may be told which Python runs its workers: here one that asks a
server for a fork of itself, and waits for its end.
"""

import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
PRELOADED = ("handclip_core.runs.drive", "handclip_core.models.lora", "search_spaces.joint", "pandas", "pyarrow.fs")
"""Not Ray, which reads variables of each worker when it is imported."""
STANDARD_FILES = (0, 1, 2)
PYTHON = "HANDCLIP_TEST_PYTHON"
SERVER = "HANDCLIP_TEST_SERVER"
"""Environment variable of a node that has a server of its own: its address."""
LAUNCHER = (sys.executable, __file__, "launch")
"""Put before the command that starts a node, gives it a server of its own, whose forks end with the node's session."""


@contextmanager
def warm_python() -> Iterator[str]:
    """While the body runs, the command that stands in for ``python`` where Ray starts workers."""
    with tempfile.TemporaryDirectory(prefix="hc-warm-") as folder:  # pytest's own folders make socket names too long
        address = str(Path(folder) / "socket")
        command = [sys.executable, __file__, "serve", address]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE):
            yield python_of(address)


def python_of(address: str) -> str:
    """The command that stands in for ``python`` where workers are forked by the server at ``address``."""
    return shlex.join([sys.executable, "-S", "-E", __file__, "ask", address])


def for_drivers(python: str) -> dict[str, str]:
    """Environment variables that let a program's workers be run by ``python``."""
    return {"RAY_RUNTIME_ENV_HOOK": f"{__name__}.with_python", PYTHON: python}


def with_python(runtime_env: dict[str, object] | None) -> dict[str, object]:
    """What Ray calls in a program that has these variables."""
    return {**(runtime_env or {}), "py_executable": os.environ[PYTHON]}


def launch(command: list[str]) -> NoReturn:
    """Become ``command``, with a server beside it for as long as it runs."""
    os.environ[SERVER] = str(Path(tempfile.gettempdir()) / "warm")
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.dup2(reads, sys.stdin.fileno())
        os.close(writes)
        serve(os.environ[SERVER])
        os._exit(0)
    os.close(reads)
    os.set_inheritable(writes, True)
    os.execvp(command[0], command)


def serve(address: str) -> None:
    """Fork for whoever asks, until the standard input is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        for name in PRELOADED:
            import_module(name)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                become(connection)
            connection.close()


def become(connection: socket.socket) -> None:
    """Run what is asked for, in this process; the connection stays open until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)  # as a raylet's own workers: with one that ends, a raylet kills its process group
    _, files, _, _ = socket.recv_fds(connection, 1, len(STANDARD_FILES))
    for given, file in zip(files, STANDARD_FILES, strict=True):
        os.dup2(given, file)
        os.close(given)
    with connection.makefile("rb") as asked:
        arguments, environment, folder = json.load(asked)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()


def ask(address: str, arguments: list[str]) -> None:
    """Let the server run a program with this process's files, environment and folder; return when it has ended."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.path.expandvars(address))
        socket.send_fds(connection, [b"\0"], STANDARD_FILES)
        connection.sendall(json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "ask":
        ask(words[0], words[1:])
    elif what == "launch":
        launch(words)
    else:
        serve(*words)
