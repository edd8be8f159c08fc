"""What of Ray's own start on this host is changed, one thing each with its reason. Seen with Ray 2.60.0."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ray._private import services, utils


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
