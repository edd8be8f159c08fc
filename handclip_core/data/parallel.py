"""Work on many files with all cores and a visible progress."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from handclip_core.console import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def map_files(
    function: Callable[[Item], Result], items: Sequence[Item], *, description: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``, computed by threads, while showing progress.

    Threads are enough: reading, hashing, decoding and resizing all release the interpreter lock. The first error stops
    the work and is raised here.
    """
    pool = ThreadPoolExecutor(workers or available_cores())
    try:
        yield from track(pool.map(function, items), description=description, total=len(items))
    finally:
        pool.shutdown(cancel_futures=True)
