"""Progress that people see: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")
LOG_EVERY_S = 10.0


def track(items: Iterable[Item], *, description: str, total: int, sizes: Iterable[int] = repeat(1)) -> Iterator[Item]:
    """Yield ``items`` while showing how far they are: a bar on a terminal, else a line on stderr every ten seconds.

    ``total`` is the sum of ``sizes``, so that progress is in the unit of ``description`` however the work is cut.
    """
    if sys.stderr.isatty():
        with Progress(console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(description, total=total)
            for item, size in zip(items, sizes, strict=False):
                yield item
                shown.advance(task, size)
        return
    started = last = time.monotonic()
    done = 0
    for item, size in zip(items, sizes, strict=False):
        yield item
        done += size
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            print(f"{description}: {done}/{total} ({last - started:.0f} s)", file=sys.stderr, flush=True)
