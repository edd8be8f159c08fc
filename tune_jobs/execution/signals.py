"""Signals to end set an event; the callback ends the sweep between two steps of Tune, never amid a write."""

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import ray
from ray._private import services, utils
from ray.tune.experiment import Trial

from handclip_core.signals import ENDING, SAME_S

RESTORE_EVERY_S = 0.005


class Interrupted(Exception):  # noqa: N818 - no error
    """The user, or the system, wants the sweep to end now."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Within the block the first ending signal sets the event; a later one acts as it would have without the block.

    Outside the main thread, where Python cannot catch signals, they do not set it.
    """
    caught = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    first: list[float] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, frame: object) -> None:
        del frame
        caught.set()
        first.append(time.monotonic())
        if first[-1] - first[0] > SAME_S:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


@contextmanager
def signals_are_the_drivers() -> Iterator[None]:
    """What of Ray is started within the block leaves signals to the driver.

    Ray's processes on this host lead process groups of their own: a signal to the driver's group (a closing terminal,
    `timeout`) would end Ray before the driver, which then waits for an answer of Ray's for a minute. They end with the
    driver all the same, for the system sees to that on Linux; elsewhere Ray has them ended by their group, and nothing
    is changed. And Ray does not put handlers of SIGTERM in the place of the driver's: neither the one in Python nor,
    once it has started, the one in C++, which prints a dump.
    """
    before = services.ConsolePopen
    if sys.platform == "linux":
        services.ConsolePopen = partial(before, process_group=0)
    handler = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        services.ConsolePopen, utils.set_sigterm_handler = before, handler
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@contextmanager
def sigterm_stays_the_drivers() -> Iterator[None]:
    """What of Ray ends within the block leaves SIGTERM to the driver; in any thread.

    Amid its end Ray puts the system's own handler in the place of Python's, so that SIGTERM would end the driver
    without a word, then and later on. Python sets handlers in the main thread alone, which has other work.
    """
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    before, over = get(signal.SIGTERM), threading.Event()

    def restore() -> None:
        while not over.wait(RESTORE_EVERY_S):
            if get(signal.SIGTERM) != before:
                put(signal.SIGTERM, before)

    restoring = threading.Thread(target=restore, name="SIGTERM", daemon=True)
    restoring.start()
    try:
        yield
    finally:
        over.set()
        restoring.join()
        put(signal.SIGTERM, before)


def end_workers(trials: Sequence[Trial]) -> None:
    """Kill the processes of ``trials``: one deep in a step would hold the driver up, and its last state is saved."""
    for trial in trials:
        actor = trial.temporary_state.ray_actor
        if actor is not None and not trial.is_finished():
            ray.kill(actor)
