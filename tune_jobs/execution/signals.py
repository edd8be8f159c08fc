"""Signals to end set an event; the callback ends the sweep between two steps of Tune, never amid a write."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ray
from ray.tune.experiment import Trial

from handclip_core.signals import ENDING, SAME_S


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


def end_workers(trials: Sequence[Trial]) -> None:
    """Kill the processes of ``trials``: one deep in a step would hold the driver up, and its last state is saved."""
    for trial in trials:
        actor = trial.temporary_state.ray_actor
        if actor is not None and not trial.is_finished():
            ray.kill(actor)
