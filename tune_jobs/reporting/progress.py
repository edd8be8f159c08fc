"""A sweep as its user sees it: one live table on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import isnan, nan
from textwrap import wrap

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from handclip_core.evaluation.metrics import Metric
from tune_jobs.reporting.leaderboard import describe_status
from tune_jobs.reporting.page import hours
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

ROWS = 14
"""Trials that the live table shows; with its heading and progress bar it stays within 20 lines."""
STATUS_WIDTH = 24
"""Keeps the table within 80 columns."""
LINE_WIDTH = 80
LOG_EVERY_S, STATUS_EVERY_S = 30.0, 300.0
"""Seconds without news after which a log says what runs, and between two times that it says how all stands."""
NUM_SHOWN = 2
"""Metrics that fit beside the rest."""
NO_ESTIMATE = "no estimate yet"


@dataclass(kw_only=True)
class Progress:
    """The trials of a sweep, ``num_trials`` in all of ``budget`` units each, and what is said of them as they go."""

    all_trials: Trials
    num_trials: int
    budget: int
    started: float = field(default_factory=lambda: time.monotonic())
    """When this driver began, by its own clock: the usage of earlier drivers is not what its user waits for."""

    def shown(self) -> AbstractContextManager[object]:
        """The block within which it is shown."""
        return nullcontext()

    def ended(self, view: TrialView) -> None:
        """A trial is over."""

    def tick(self) -> None:
        """Trials run, and nothing need have happened."""

    @property
    def share_done(self) -> float:
        """How much of the sweep is done, from 0 to 1."""
        done = sum(1.0 if view.status.over else view.unit / self.budget for view in self.all_trials.all())
        return min(1.0, done / self.num_trials)

    @property
    def time_left(self) -> str:
        """How long the rest will take if it goes on as so far, with a comma before it; nothing if that is not known."""
        share, used_s = self.share_done, self.all_trials.usage.seconds
        if not 0 < share < 1 or not used_s:
            return ""
        minutes = used_s * (1 - share) / share / 60
        return f", about {minutes:.0f} min left" if minutes < 120 else f", about {minutes / 60:.1f} h left"

    def awaited(self, now: float) -> str:
        """What the first result of this driver waits for, and when it comes; empty if there is one, or none will come.

        ``now`` is in seconds since 1970.
        """
        if not self.all_trials.awaits_result or self.all_trials.num_over() == self.num_trials:
            return ""
        begun = self.all_trials.unfinished()
        running = [view for view in begun if view.status is Status.RUNNING]
        if not begun:
            what = f"workers start, then the first units of the first trials; {NO_ESTIMATE}"
        elif not running:
            what = f"{_named(begun)}: a worker starts; {NO_ESTIMATE}"
        else:
            what = min((left_of(view, now) for view in running if view.measured is not None), default=(0.0, ""))[1]
            what = what or f"{_named(running)}: the first steps; {self._earlier(running[0])}"
        return f"waiting for the first result of {self.num_trials} trials: {what}"

    def _earlier(self, view: TrialView) -> str:
        """What a unit has taken a trial's strategy with an earlier driver, which includes its validation."""
        slowest_s = max(other.slowest_s for other in self.all_trials.all() if other.arm == view.arm)
        return f"a unit of {view.arm} took {slowest_s:.0f} s at most so far" if slowest_s else NO_ESTIMATE

    def status_lines(self, now: float) -> list[str]:
        """How a sweep stands, in lines of 80 characters: progress, best a strategy, what runs, what failed.

        ``now`` is in seconds since 1970.
        """
        all_trials, views = self.all_trials, self.all_trials.ranked()
        label, used = all_trials.task.metrics.objective.label, f"{hours(all_trials.usage.hours)} h used"
        lines = [f"{all_trials.num_over()} of {self.num_trials} trials over, {used}{self.time_left}"]
        if awaited := self.awaited(now):
            lines.append(awaited)
        best = {view.arm: view for view in reversed(views) if view.has_score}
        for view in sorted(best.values(), key=lambda view: -view.score):
            tried = sum(other.arm == view.arm for other in views)
            lines.append(f"best {view.arm:<20} {label} {view.score:.4f} by trial {view.number}, {tried} tried")
        for view in views:
            if view.status is Status.RUNNING:
                score = f", {label} {view.score:.4f}" if view.has_score else ""
                lines.append(f"running trial {view.number} {view.arm}: unit {view.unit} of {self.budget}{score}")
            if view.status is Status.FAILED:
                lines.append(f"failed trial {view.number} {view.arm}: {view.reason}")
        return [part for line in lines for part in wrap(line, LINE_WIDTH, subsequent_indent="  ")]


@dataclass(kw_only=True)
class ProgressTable(Progress):
    """A table on a terminal, redrawn in place several times a second: running trials first, then the best."""

    console: Console

    def shown(self) -> Live:
        """The block within which the table is shown."""
        # It goes when the sweep ends: the summary's table takes its place.
        return Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def render(self) -> RenderableType:
        """The progress bar over the table; at most 20 lines."""
        line = Table.grid(padding=(0, 1))
        over = f"{self.all_trials.num_over()} of {self.num_trials} trials"
        bar = ProgressBar(total=1.0, completed=self.share_done, width=40)
        line.add_row(over, bar, clock(time.monotonic() - self.started))
        awaited = self.awaited(time.time())
        return Group(line, *([awaited] if awaited else []), trial_table(self.all_trials, budget=self.budget, rows=ROWS))


@dataclass(kw_only=True)
class ProgressLog(Progress):
    """A line for every trial that ends, one now and then about those that run, and now and then all those of ``watch``.

    A trial that has hardly moved by its ``second_rung`` is said to.
    """

    second_rung: int

    def __post_init__(self) -> None:
        self._spoken = self._told = self.started
        self._measured = False

    def shown(self) -> AbstractContextManager[object]:
        """Say what the first result waits for."""
        if awaited := self.awaited(time.time()):
            self._log(awaited)
        return super().shown()

    def ended(self, view: TrialView) -> None:
        """Say how a trial ended."""
        metrics = self.all_trials.task.metrics
        how = f"{metrics.objective.label} {view.score:.4f}" if view.has_score else "trained, with no score"
        if view.status is Status.STOPPED:
            how += f", stopped at unit {view.unit} of {self.budget}"
        if view.status is Status.FAILED:
            how = f"failed: {view.reason}"
        elif view.hardly_moved_by(self.second_rung):
            how += f"; {metrics.hardly_moved}"
        self._log(f"trial {view.number} {view.arm}: {how} ({view.seconds:.0f} s)")

    def tick(self) -> None:
        """Say how all stands every few minutes, and what runs, or what the first result waits for, every half minute.

        That without other news; and as soon as it is known when the first result comes.
        """
        now = time.monotonic()
        if now - self._told >= STATUS_EVERY_S:
            self._told = self._spoken = now
            first, *others = self.status_lines(time.time())
            print("\n".join([f"[{clock(now - self.started)}] {first}", *others]), flush=True)
            return
        measured = any(view.measured is not None for view in self.all_trials.unfinished())
        if now - self._spoken < LOG_EVERY_S and measured <= self._measured:
            return
        self._measured = measured
        if awaited := self.awaited(time.time()):
            self._log(awaited)
            return
        running = [view for view in self.all_trials.all() if view.status is Status.RUNNING]
        trials = ", ".join(f"trial {view.number} {view.arm} at unit {view.unit}" for view in running) or "no trial yet"
        self._log(f"running: {trials} of {self.budget}{self.time_left}")

    def _log(self, text: str) -> None:
        self._spoken = time.monotonic()
        best = self.all_trials.best
        so_far = "" if best is None else f"; best so far {best.score:.4f} by trial {best.number} {best.arm}"
        over = f"{self.all_trials.num_over()}/{self.num_trials}"
        print(f"[{clock(self._spoken - self.started)}] {over}  {text}{so_far}", flush=True)


def left_of(view: TrialView, now: float) -> tuple[float, str]:
    """Seconds until a measured trial has been shown all images of its present unit, and that in words."""
    measured = view.measured
    assert measured is not None, "measured"
    left_s = max(0.0, measured.left_s - (now - measured.at))
    far = f"trial {view.number} {view.arm}: {measured.images} of {measured.unit_images} images of unit {view.unit + 1}"
    rest = f"the others in about {left_s:.0f} s" if left_s else "the others are due"
    return left_s, f"{far}; {rest}, validation not counted"


@contextmanager
def still(doing: str) -> Iterator[None]:
    """Say every half minute, in a log, that what the block does is still going on, which shows no progress itself."""
    over, began = threading.Event(), time.monotonic()

    def speak() -> None:
        while not over.wait(LOG_EVERY_S):
            print(f"[{clock(time.monotonic() - began)}] still {doing}", flush=True)

    if not sys.stdout.isatty():
        threading.Thread(target=speak, name=doing, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _named(views: Sequence[TrialView]) -> str:
    """The first of some trials, and how many others there are."""
    more = f" and {len(views) - 1} more" if len(views) > 1 else ""
    return f"trial {views[0].number} {views[0].arm}{more}"


def progress_for(all_trials: Trials, *, num_trials: int, budget: int, second_rung: int) -> Progress:
    """The live table on a terminal, lines anywhere else."""
    if sys.stdout.isatty():
        return ProgressTable(all_trials=all_trials, num_trials=num_trials, budget=budget, console=Console())
    return ProgressLog(all_trials=all_trials, num_trials=num_trials, budget=budget, second_rung=second_rung)


def trial_table(all_trials: Trials, *, budget: int, rows: int, reasons: bool = True) -> Table:
    """Running trials, then the others from best to worst, ``rows`` in all; with the ``reasons`` of failures, cut."""
    # Sorting keeps the ranks among those that run, and among the others.
    order = sorted(all_trials.ranked(), key=lambda view: view.status is not Status.RUNNING)
    best, metrics = all_trials.best, shown_metrics(all_trials)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    for heading in ("strategy", *(("backbone",) if all_trials.backbones else ())):
        table.add_column(heading, no_wrap=True)
    for heading in ("unit", *(metric.label for metric in metrics), "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True, overflow="ellipsis", max_width=STATUS_WIDTH)
    for view in order[:rows]:
        scores = [view.metrics.get(metric.name, nan) for metric in metrics]
        table.add_row(
            str(view.number),
            view.strategy,
            *((view.backbone,) if all_trials.backbones else ()),
            f"{view.unit}/{budget}",
            *("" if isnan(score) else f"{score:.4f}" for score in scores),
            clock(view.seconds),
            Text(describe_status(view) if reasons else str(view.status)),
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
