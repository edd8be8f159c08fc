"""Progress that people see: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")
LOG_EVERY_S = 10.0


def track(items: Iterable[Item], *, description: str, total: int) -> Iterator[Item]:
    """Yield ``items`` while showing how far they are: a bar on a terminal, else a line on stderr every ten seconds."""
    if sys.stderr.isatty():
        console = Console(stderr=True)
        yield from rich_track(items, description=description, total=total, console=console, transient=True)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            print(f"{description}: {done}/{total} ({last - started:.0f} s)", file=sys.stderr, flush=True)
