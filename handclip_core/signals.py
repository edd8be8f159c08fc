"""SIGINT, SIGTERM and SIGHUP end a command: one line, exit code 128 + number, within seconds and whatever it is doing.

Only the standard library is imported here, so that a command can begin with it, before it imports what takes long.
"""

import atexit
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 7.0
"""Seconds that a command has to end by itself after its first signal; then it is ended as it is."""
SAME_S = 1.0
"""Signals within so many seconds of the first count as one: `timeout` and terminals send several."""


class Ended(BaseException):
    """A signal has told this command to end. No Exception, so that nothing takes it for an error on its way."""


class _Told:
    """What this process was told by signals, and what it says if it has to be ended as it is."""

    number: int | None = None
    raised = False
    at_once = False
    code: int | None = None
    last_words = "interrupted"
    leftovers: ClassVar[list[Path]] = []


_leaving = threading.Lock()


def end_on_signals() -> None:
    """From now on the first ending signal raises Ended; GRACE_S later, or on another one, this process is ended.

    Call it in the main thread. A signal that is ignored, as SIGHUP is under nohup, stays so.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_once)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The main thread may be deep in a library when a signal comes, and then runs no handler; a byte comes at once.
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    sys.excepthook, threading.excepthook = _tell, _tell_of_thread
    # What is registered first runs last.
    atexit.register(_skip_teardown)


def leave_if_told() -> None:
    """End this process, which has done all that it had to, if it was told to: Python takes long to end beside Ray."""
    if _Told.number is not None:
        sys.stdout.flush()
        _leave()


def exit_after_all(code: int) -> NoReturn:
    """End this command, which has done all that it had to, with ``code``; from now on a signal ends it as it is.

    What is registered for the end runs, but Python does not take its modules down: that can take a second, in which a
    signal would end the process without a word, and with the system's code.
    """
    with suppress(OSError):  # whoever read has gone
        sys.stdout.flush()
    _Told.at_once, _Told.code, _Told.last_words = True, code, "interrupted after all was done"
    sys.exit(code)


def say_at_the_end(words: str) -> None:
    """What this process says in the place of "interrupted" if a signal ends it: how to go on."""
    _Told.last_words = words


def remove_at_the_end(folder: Path) -> None:
    """Have ``folder`` removed if a signal ends this process, which then runs nothing that is registered for its end."""
    _Told.leftovers.append(folder)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Within the block a signal ends this process as it is: for what cannot be unwound and has written nothing."""
    _Told.at_once = True
    try:
        yield
    finally:
        _Told.at_once = False


@contextmanager
def deaf_to_terminals() -> Iterator[None]:
    """Processes started in the block do not see SIGINT and SIGHUP, which terminals send to all; their parent does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise_once(number: int, frame: object) -> None:
    del frame
    if not _Told.raised:
        _Told.raised, _Told.number = True, number
        if _Told.at_once:
            _leave()
        raise Ended


def _watch(reading: int) -> None:
    """Wait for the first signal, give the main thread its time, and end this process."""
    _Told.number = _next_signal(reading)
    since = time.monotonic()
    timer = threading.Timer(0.0 if _Told.at_once else GRACE_S, _leave)
    timer.daemon = True
    timer.start()
    while True:
        _next_signal(reading)
        if time.monotonic() - since > SAME_S:
            _leave()


def _next_signal(reading: int) -> int:
    while True:
        number = os.read(reading, 1)[0]
        if number in ENDING:
            return number


def _skip_teardown() -> None:
    """End this process at once if it has done all that it had to."""
    if _Told.code is not None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(_Told.code)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End this process after what a signal has broken, which is all that is raised after one; else show the error."""
    if issubclass(kind, Ended) or _Told.number is not None:
        _leave()
    sys.__excepthook__(kind, error, trace)


def _tell_of_thread(what: threading.ExceptHookArgs) -> None:
    """Show the error of a thread, unless a signal has broken it."""
    if _Told.number is None:
        threading.__excepthook__(what)


def _leave() -> None:
    """End this process and all that it has started, without running anything more of it."""
    _leaving.acquire()  # whoever comes second waits for the end
    for pid in _descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for folder in _Told.leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    if _Told.last_words:
        with suppress(OSError):
            os.write(2, f"{_Told.last_words}\n".encode())
    os._exit(128 + (_Told.number or signal.SIGINT))


def _descendants(pid: int) -> list[int]:
    """The processes that process ``pid`` has started, and theirs, where the system tells (Linux)."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]
