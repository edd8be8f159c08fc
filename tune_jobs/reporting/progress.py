"""A sweep as its user sees it: one live table on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan, nan

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from handclip_core.evaluation.metrics import OBJECTIVE, TABLE_METRICS
from tune_jobs.state.trials import Status, Trials, TrialView

ROWS = 14
"""Trials that the live table shows; with its heading and progress bar it stays within 20 lines."""
STATUS_WIDTH = 24
"""Keeps the table within 80 columns."""
LOG_EVERY_S = 30.0
SHOWN = TABLE_METRICS[:2]
"""Metrics that fit beside the rest."""


class ProgressTable:
    """A table on a terminal, redrawn in place: running trials first, then the best."""

    def __init__(self, all_trials: Trials, *, num_trials: int, budget: int, console: Console) -> None:
        self._all_trials = all_trials
        self._num_trials = num_trials
        self._budget = budget
        self._console = console
        self._started = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while the block runs."""
        with Live(console=self._console, get_renderable=self.render, refresh_per_second=4, transient=True):
            yield

    def ended(self, view: TrialView) -> None:
        """Nothing: the table is redrawn anyway."""

    def tick(self) -> None:
        """Nothing: the table is redrawn anyway."""

    def render(self) -> RenderableType:
        """The progress bar over the table; at most 20 lines."""
        all_trials = self._all_trials.all()
        share = sum(1.0 if r.status.over else r.unit / self._budget for r in all_trials) / self._num_trials
        line = Table.grid(padding=(0, 1))
        line.add_row(
            f"{self._all_trials.num_over()} of {self._num_trials} trials",
            ProgressBar(total=1.0, completed=share, width=40),
            clock(time.monotonic() - self._started),
        )
        return Group(line, trial_table(self._all_trials, budget=self._budget, rows=ROWS))


class ProgressLog:
    """A line for every trial that ends, and one now and then about those that run."""

    def __init__(self, all_trials: Trials, *, num_trials: int, budget: int) -> None:
        self._all_trials = all_trials
        self._num_trials = num_trials
        self._budget = budget
        self._started = self._spoken = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Nothing to set up."""
        yield

    def ended(self, view: TrialView) -> None:
        """Say how a trial ended."""
        how = {
            Status.COMPLETE: f"{OBJECTIVE.label} {view.score:.4f}",
            Status.STOPPED: f"{OBJECTIVE.label} {view.score:.4f}, stopped at unit {view.unit} of {self._budget}",
            Status.FAILED: f"failed: {view.reason}",
        }[view.status]
        self._log(f"trial {view.number} {view.strategy}: {how} ({view.seconds:.0f} s)")

    def tick(self) -> None:
        """Say what runs, every half minute without news."""
        if time.monotonic() - self._spoken < LOG_EVERY_S:
            return
        running = [r for r in self._all_trials.all() if r.status is Status.RUNNING]
        trials = ", ".join(f"trial {r.number} {r.strategy} at unit {r.unit}" for r in running) or "no trial yet"
        self._log(f"running: {trials} of {self._budget}")

    def _log(self, text: str) -> None:
        self._spoken = time.monotonic()
        best = self._all_trials.best
        so_far = "" if best is None else f"; best so far {best.score:.4f} by trial {best.number} {best.strategy}"
        over = f"{self._all_trials.num_over()}/{self._num_trials}"
        print(f"[{clock(self._spoken - self._started)}] {over}  {text}{so_far}", flush=True)


Display = ProgressTable | ProgressLog


def display_for(all_trials: Trials, *, num_trials: int, budget: int) -> Display:
    """The live table on a terminal, lines anywhere else."""
    if sys.stdout.isatty():
        return ProgressTable(all_trials, num_trials=num_trials, budget=budget, console=Console())
    return ProgressLog(all_trials, num_trials=num_trials, budget=budget)


def trial_table(all_trials: Trials, *, budget: int, rows: int) -> Table:
    """Running trials, then the others from best to worst, ``rows`` in all."""
    ranked = all_trials.ranked()
    order = [r for r in ranked if r.status is Status.RUNNING] + [r for r in ranked if r.status is not Status.RUNNING]
    best = all_trials.best
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    for heading in ("unit", *(metric.label for metric in SHOWN), "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True, overflow="ellipsis", max_width=STATUS_WIDTH)
    for view in order[:rows]:
        table.add_row(*_cells(view, budget), style="bold" if view is best else "")
    return table


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _cells(view: TrialView, budget: int) -> tuple[str | Text, ...]:
    status = f"failed: {view.reason}" if view.status is Status.FAILED else str(view.status)
    return (
        str(view.number),
        view.strategy,
        f"{view.unit}/{budget}",
        *(f"{view.metrics[m.name]:.4f}" if not isnan(view.metrics.get(m.name, nan)) else "" for m in SHOWN),
        clock(view.seconds),
        Text(status),
    )
