"""A sweep as its user sees it: one live table on a terminal, plain lines in a log."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from math import isnan, nan

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from handclip_core.evaluation.metrics import Metric
from tune_jobs.reporting.leaderboard import describe_status
from tune_jobs.state.trials import Status, Trials, TrialView

ROWS = 14
"""Trials that the live table shows; with its heading and progress bar it stays within 20 lines."""
STATUS_WIDTH = 24
"""Keeps the table within 80 columns."""
LOG_EVERY_S = 30.0
NUM_SHOWN = 2
"""Metrics that fit beside the rest."""


class _Progress:
    """The trials of a sweep, ``num_trials`` in all of ``budget`` units each, shown while a block runs."""

    def __init__(self, all_trials: Trials, *, num_trials: int, budget: int) -> None:
        self._all_trials, self._num_trials, self._budget = all_trials, num_trials, budget
        self._started = self._spoken = time.monotonic()


class ProgressTable(_Progress):
    """A table on a terminal, redrawn in place: running trials first, then the best."""

    def __init__(self, all_trials: Trials, *, num_trials: int, budget: int, console: Console) -> None:
        super().__init__(all_trials, num_trials=num_trials, budget=budget)
        self._console = console

    def shown(self) -> Live:
        """The block within which the table is shown."""
        return Live(console=self._console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def ended(self, view: TrialView) -> None:
        """Nothing: the table is redrawn anyway."""

    def tick(self) -> None:
        """Nothing: the table is redrawn anyway."""

    def render(self) -> RenderableType:
        """The progress bar over the table; at most 20 lines."""
        all_trials = self._all_trials.all()
        share = sum(1.0 if r.status.over else r.unit / self._budget for r in all_trials) / self._num_trials
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=share, width=40)
        over = f"{self._all_trials.num_over()} of {self._num_trials} trials"
        line.add_row(over, bar, clock(time.monotonic() - self._started))
        return Group(line, trial_table(self._all_trials, budget=self._budget, rows=ROWS))


class ProgressLog(_Progress):
    """A line for every trial that ends, and one now and then about those that run.

    A trial that has hardly moved by its ``second_rung`` is said to.
    """

    def __init__(self, all_trials: Trials, *, num_trials: int, budget: int, second_rung: int) -> None:
        super().__init__(all_trials, num_trials=num_trials, budget=budget)
        self._second_rung = second_rung

    def shown(self) -> AbstractContextManager[None]:
        """Nothing to set up."""
        return nullcontext()

    def ended(self, view: TrialView) -> None:
        """Say how a trial ended."""
        metrics = self._all_trials.task.metrics
        how = f"{metrics.objective.label} {view.score:.4f}" if view.has_score else "trained, with no score"
        if view.status is Status.STOPPED:
            how += f", stopped at unit {view.unit} of {self._budget}"
        if view.status is Status.FAILED:
            how = f"failed: {view.reason}"
        elif view.hardly_moved_by(self._second_rung):
            how += f"; {metrics.hardly_moved}"
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


def display_for(all_trials: Trials, *, num_trials: int, budget: int, second_rung: int) -> Display:
    """The live table on a terminal, lines anywhere else."""
    if sys.stdout.isatty():
        return ProgressTable(all_trials, num_trials=num_trials, budget=budget, console=Console())
    return ProgressLog(all_trials, num_trials=num_trials, budget=budget, second_rung=second_rung)


def trial_table(all_trials: Trials, *, budget: int, rows: int) -> Table:
    """Running trials, then the others from best to worst, ``rows`` in all."""
    # Sorting keeps the ranks among those that run, and among the others.
    order = sorted(all_trials.ranked(), key=lambda view: view.status is not Status.RUNNING)
    best, metrics = all_trials.best, shown_metrics(all_trials)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    for heading in ("unit", *(metric.label for metric in metrics), "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True, overflow="ellipsis", max_width=STATUS_WIDTH)
    for view in order[:rows]:
        scores = [view.metrics.get(metric.name, nan) for metric in metrics]
        table.add_row(
            str(view.number),
            view.strategy,
            f"{view.unit}/{budget}",
            *("" if isnan(score) else f"{score:.4f}" for score in scores),
            clock(view.seconds),
            Text(describe_status(view)),
            style="bold" if view is best else "",
        )
    return table


def shown_metrics(all_trials: Trials) -> tuple[Metric, ...]:
    """The metrics that a table of trials shows."""
    return all_trials.task.metrics.in_tables[:NUM_SHOWN]


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
