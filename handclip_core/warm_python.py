"""Python processes that begin with their imports done: forked from a server, which is a fork of this process.

Torch and open_clip take seven seconds of a processor to import. A program that starts workers by a command gives
``warm_python()`` in the place of ``python``, and each worker is a fork of the server, which shares its memory.

Run as a script, this file asks a server for a fork. Only the standard library is imported here, so that it is quick.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

STANDARD_FILES = (0, 1, 2)
PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when its parent ends."""
CALL = "--call"
"""In the place of a program: what to call comes from the standard input."""
_command: list[str] = []


def start_warm_python(preloaded: Sequence[str]) -> None:
    """Fork a server off this process, which imports the modules ``preloaded`` too; it ends with this process.

    To be called before this process uses a GPU or runs anything of OpenMP's, whose threads a fork has not.
    """
    if _command:
        return
    folder = tempfile.mkdtemp(prefix="hc-warm-")
    address = str(Path(folder) / "socket")
    pid, _ = fork_server(address, preloaded)
    _command.append(command_of(address))
    atexit.register(_end, pid, folder)


def fork_server(address: str, preloaded: Sequence[str]) -> tuple[int, int]:
    """Fork a server off this process that listens at ``address``, a new file; its number, and what keeps it alive.

    It ends when nobody holds that end of a pipe any more, this process or whatever it has become.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    reading, writing = os.pipe()
    _flush()  # what is written by now is not to be written by forks again
    gc.freeze()  # else the collector writes to every page that is shared
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        _serve(listening, reading, preloaded, Path(address))
    gc.unfreeze()
    os.close(reading)
    listening.close()
    return pid, writing


def warm_python() -> str | None:
    """The command that stands in for ``python``, if a server has been started."""
    return _command[0] if _command else None


def call_warm(function: Callable[..., object], *args: str) -> None:
    """Call ``function`` of a module in a fork of the server, which writes where this process does.

    Here if there is no server. Raises the InputError that it raises.
    """
    if not _command:
        function(*args)
        return
    from handclip_core.errors import InputError

    with tempfile.TemporaryDirectory(prefix="hc-warm-") as folder:
        answer = Path(folder) / "answer"
        wanted = json.dumps([function.__module__, function.__qualname__, args, str(answer)])
        subprocess.run([*shlex.split(_command[0]), CALL], input=wanted, text=True, check=False)
        if not answer.exists():
            raise RuntimeError(f"{function.__qualname__} did not come to its end in a process of its own")
        if refused := answer.read_text():
            raise InputError(refused)


def command_of(address: str) -> str:
    """The command that stands in for ``python`` where processes are forked by the server at ``address``."""
    return shlex.join([sys.executable, "-I", "-S", __file__, address])


def _end(pid: int, folder: str) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _serve(listening: socket.socket, reading: int, preloaded: Sequence[str], address: Path) -> NoReturn:
    """Fork for whoever asks, until the process that started this one has ended."""
    try:
        _forget_the_parent()
        signal.signal(signal.SIGCHLD, _reap)
        nothing = os.open(os.devnull, os.O_RDWR)
        for file in STANDARD_FILES:
            os.dup2(nothing, file)
        for name in preloaded:
            import_module(name)
        gc.collect()
        gc.freeze()
        while reading not in select.select([listening.fileno(), reading], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                os.close(reading)
                _become(connection)
            connection.close()
    finally:
        with suppress(OSError):
            address.unlink(missing_ok=True)
            address.parent.rmdir()
        os._exit(0)


def _reap(number: int, frame: object) -> None:
    """Take leave of forks that have ended: their processor time counts as this process's then."""
    del number, frame
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(connection: socket.socket) -> NoReturn:
    """Run what is asked for, in this process; the connection stays open until it ends."""
    code: int | str | None = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end what ``call_warm`` began
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
        code = _call() if arguments == [CALL] else _run(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        # Neither what stands below on the stack nor what is registered for its end is this program's.
        os._exit(code if isinstance(code, int) else int(code is not None))


def _run(arguments: list[str]) -> int:
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


def _call() -> int:
    from handclip_core.errors import InputError

    with open(0, closefd=False) as given:
        module, name, args, answer = json.load(given)
    try:
        getattr(import_module(module), name)(*args)
    except InputError as error:
        Path(answer).write_text(str(error))
    else:
        Path(answer).touch()
    return 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as where a program has been started without
            stream.flush()


def _forget_the_parent() -> None:
    """Undo what the process that this one is a fork of has set up for itself."""
    os.setpgid(0, 0)  # signals to the group are for the parent
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__


def _ask(address: str, arguments: list[str]) -> None:
    """Let the server run a program with this process's files, environment and folder; return when it has ended.

    Without a server this process becomes a Python that imports all anew.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.expandvars(address))
        except OSError:
            os.execv(sys.executable, [sys.executable, *arguments])
        socket.send_fds(connection, [b"\0"], STANDARD_FILES)
        connection.sendall(json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


if __name__ == "__main__":
    _ask(sys.argv[1], sys.argv[2:])
