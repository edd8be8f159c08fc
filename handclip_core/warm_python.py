"""Python processes that begin with their imports done: forked from a server, which is a fork of this process.

Torch and open_clip take ten seconds of a processor to import. A program that starts workers by a command gives
``warm_python()`` in the place of ``python``, and each worker is a fork of the server, which shares its memory.

Run as a script, this file asks a server for a fork. Only the standard library is imported then, so that it is quick.
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
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

STANDARD_FILES = (0, 1, 2)
PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when its parent ends."""
CALL = "--call"
"""In the place of a program: a file for the answer, and what to call with which texts."""
VALUE, REFUSED = "value", "refused"
"""What an answer holds."""
_address: list[str] = []


def start_warm_python(preloaded: Sequence[str]) -> None:
    """Fork a server off this process, which imports the modules ``preloaded`` too; it ends with this process.

    To be called before this process computes anything, uses a GPU, or opens what has threads of its own, such as the
    client of a bucket: a fork has none of them. Where no socket can be made, there is no server.
    """
    if _address:
        return
    from handclip_core.scratch import PREFIX, claim
    from handclip_core.signals import remove_at_the_end

    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}warm-"))
    claim(folder)
    try:
        pid, _ = fork_server(str(folder / "socket"), preloaded)
    except OSError:  # the folder's name is too long for one
        shutil.rmtree(folder)
        return
    _address.append(str(folder / "socket"))
    remove_at_the_end(folder)
    atexit.register(_end, pid, folder)


def fork_server(address: str, preloaded: Sequence[str]) -> tuple[int, int]:
    """Fork a server off this process that listens at ``address``, a new file; its number, and what keeps it alive.

    It ends when nobody holds that end of a pipe any more, this process or whatever it has become.
    """
    from handclip_core.signals import ENDING

    _open_standard_files()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    reading, writing = os.pipe()
    _flush()  # what is written by now is not to be written by forks again
    gc.freeze()  # else the collector writes to every page that is shared
    # What a signal's handler raises amid a fork is lost: modules have functions run there, and Python prints the rest.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    pid = os.fork()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if pid == 0:
        os.close(writing)
        _serve(listening, reading, preloaded, Path(address))
    gc.unfreeze()
    os.close(reading)
    listening.close()
    return pid, writing


def warm_python() -> str | None:
    """The command that stands in for ``python``, if a server has been started."""
    return command_of(_address[0]) if _address else None


def call_warm(function: Callable[..., Any], *args: str) -> Any:
    """What ``function`` of a module answers from a fork of the server, which writes where this process does.

    JSON has to hold it. Called here if there is no server. Raises InputError if the function does, or meets a file that
    cannot be used.
    """
    _open_standard_files()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(_address[0] if _address else "")
        except OSError:
            return function(*args)
        answer = _answer_beside(Path(_address[0]))
        answer.unlink(missing_ok=True)
        _ask(connection, [CALL, str(answer), function.__module__, function.__qualname__, *args])
    if not answer.exists():
        raise RuntimeError(f"{function.__qualname__} did not come to its end in a process of its own")
    told = json.loads(answer.read_text())
    if REFUSED in told:
        from handclip_core.errors import InputError

        raise InputError(told[REFUSED])
    return told[VALUE]


def begin_to_call_warm(function: Callable[..., object], *args: str) -> None:
    """Begin to call ``function`` in a fork of the server, if there is one, and do not wait for it.

    It is for work that can be done again: what becomes of it is not asked, and it ends with this process.
    """

    def call() -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(_address[0])
            _ask(connection, [CALL, os.devnull, function.__module__, function.__qualname__, *args])

    if _address:
        _open_standard_files()
        threading.Thread(target=call, name=function.__qualname__, daemon=True).start()


def command_of(address: str) -> str:
    """The command that stands in for ``python`` where processes are forked by the server at ``address``."""
    return shlex.join([sys.executable, "-I", "-S", __file__, address])


def _answer_beside(address: Path) -> Path:
    """Where a call from this thread finds its answer."""
    return address.with_name(f"answer-{threading.get_ident()}")


def _end(pid: int, folder: Path) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)


def _serve(listening: socket.socket, reading: int, preloaded: Sequence[str], address: Path) -> NoReturn:
    """Fork for whoever asks, until the process that started this one has ended."""
    from handclip_core.scratch import LOCK

    try:
        _forget_the_parent()
        signal.signal(signal.SIGCHLD, _reap)
        for name in preloaded:
            import_module(name)
        nothing = os.open(os.devnull, os.O_RDWR)
        for file in STANDARD_FILES:
            os.dup2(nothing, file)
        gc.collect()
        gc.freeze()
        while reading not in select.select([listening.fileno(), reading], [], [])[0]:
            with suppress(OSError):  # too many processes or files just now: that one is not served
                _fork_for_one(listening, reading)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            for path in (address, *address.parent.glob("answer-*"), address.with_name(LOCK)):
                path.unlink(missing_ok=True)
            address.parent.rmdir()
        os._exit(0)


def _fork_for_one(listening: socket.socket, reading: int) -> None:
    connection, _ = listening.accept()
    with connection:
        server = os.getpid()
        if os.fork() == 0:
            listening.close()
            os.close(reading)
            _become(connection, server)


def _reap(number: int, frame: object) -> None:
    """Take leave of forks that have ended: their processor time counts as this process's then."""
    del number, frame
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(connection: socket.socket, server: int) -> NoReturn:
    """Run what is asked for, in this process; the connection stays open until it ends."""
    code: int | str | None = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end what ``call_warm`` began
        if os.getppid() != server:
            os._exit(1)
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
        code = _call(*arguments[1:]) if arguments[0] == CALL else _run(arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        # What stands below on the stack is not this program's, nor is all that is registered for the end.
        os._exit(code if isinstance(code, int) else int(code is not None))


def _run(arguments: list[str]) -> int:
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")
    return 0


def _call(answer: str, module: str, name: str, *args: str) -> int:
    from handclip_core.errors import InputError
    from handclip_core.paths import refusal

    try:
        told = {VALUE: getattr(import_module(module), name)(*args)}
    except InputError as error:
        told = {REFUSED: str(error)}
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        told = {REFUSED: str(refused)}
    Path(answer).write_text(json.dumps(told))
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


def _open_standard_files() -> None:
    """Where a program was started without some, so that no socket takes their numbers."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= max(STANDARD_FILES):
        pass
    os.close(file)


def _ask(connection: socket.socket, arguments: list[str]) -> None:
    """Let the server run something with this process's files, variables and folder; return when it has ended."""
    socket.send_fds(connection, [b"\0"], STANDARD_FILES)
    connection.sendall(json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode())
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


def _main(address: str, arguments: list[str]) -> None:
    """Run a program in a fork; without a server this process becomes a Python that imports all anew."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_standard_files()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
        except OSError:
            os.execv(sys.executable, [sys.executable, *arguments])
        _ask(connection, arguments)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
