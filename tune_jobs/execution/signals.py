"""Ctrl-C and SIGTERM set an event; the callback ends the sweep between two steps of Tune, never amid a write."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
from ray.tune.experiment import Trial


class Interrupted(Exception):  # noqa: N818 - no error
    """The user, or the system, wants the sweep to end now."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Within the block the first SIGINT or SIGTERM sets the event; the second acts as it would have without the block.

    Outside the main thread, where Python cannot catch signals, they do not set it.
    """
    caught = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number: int, frame: object) -> None:
        del number, frame
        caught.set()
        restore()

    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_workers(trials: Sequence[Trial]) -> None:
    """Kill the processes of ``trials``: one deep in a step would hold the driver up, and its last state is saved."""
    for trial in trials:
        actor = trial.temporary_state.ray_actor
        if actor is not None and not trial.is_finished():
            ray.kill(actor)
