"""A sweep seen from outside, by its journal alone."""

import time
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tune_jobs.lifecycle.reading import read_record
from tune_jobs.reporting.progress import Progress
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.state.events import Closed
from tune_jobs.storage.location import StorageLocation

SILENT_S = 300.0
"""Without news for so long, a driver may be dead: it writes at least every minute that it is alive."""


def watch(where: StorageLocation, *, every_s: float, once: bool) -> int:
    """Show how the sweep at ``where`` stands, every ``every_s`` seconds until it ends, or ``once``.

    Raises InputError if there is no such sweep.
    """
    console = Console()
    with nullcontext() if once or not console.is_terminal else Live(console=console, auto_refresh=False) as live:
        while True:
            sweep = read_record(where)
            text = "\n".join(lines_of(sweep, now=time.time()))
            if live is None:
                print(text, flush=True)
            else:
                live.update(Text(text), refresh=True)
            if once or is_over(sweep):
                return 0
            time.sleep(every_s)


def is_over(sweep: SweepRecord) -> bool:
    """Whether its driver has left it in order."""
    return bool(sweep.events) and isinstance(sweep.events[-1], Closed)


def lines_of(sweep: SweepRecord, *, now: float) -> list[str]:
    """How a sweep stands at the time ``now``, in seconds since 1970."""
    settings, last = sweep.settings, sweep.events[-1] if sweep.events else None
    progress = Progress(all_trials=sweep.all_trials, num_trials=settings.trials, budget=settings.budget)
    lines = progress.status_lines(now)
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    lines[0] = f"[{clock}] {sweep.where.name}: {lines[0]}"
    if last is None:
        lines.append("nothing has happened yet")
    elif isinstance(last, Closed):
        lines.append(f"ended: {last.reason}" if last.reason else "it has come to its end")
    elif now - last.at > SILENT_S:
        lines.append(f"no news for {(now - last.at) / 60:.0f} min: its driver may have died; resume it, if so")
    return lines
