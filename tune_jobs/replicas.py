"""Seeds of one configuration: each is a run of its own, all of them together are one trial of the study.

The seeds of a trial run one after another. Only the first is judged by early stopping: where it is stopped or fails, so
is the trial, and its other seeds are never begun; where it ends, the others use the whole budget, and the trial's value
is the mean. Every trial gets the same seeds, so that a difference between two of them is one between pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True)
class Run:
    """One seed of a trial; ``replica`` counts from 0."""

    trial: int
    replica: int
    seed: int

    @property
    def judged(self) -> bool:
        """Whether early stopping may end it."""
        return self.replica == 0


@dataclass(frozen=True)
class Average:
    """A trial's value over its seeds, and what else was measured, likewise. ``sd`` is None for one seed."""

    value: float
    sd: float | None
    measures: dict[str, float]
    values: tuple[float, ...]
    """By replica."""


@dataclass
class Replicas:
    """The runs of each trial, and what those that ended have reached."""

    count: int
    """Seeds a trial."""
    seed: int
    """The seed of every trial's first run; the next ones follow it."""
    ended: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    """By trial, what each of its runs has measured, in order; ``value`` is its validation mAP."""

    def next_run(self, trial: int) -> Run:
        """The run that a trial needs next: its first, or the one after those that have ended."""
        replica = len(self.ended.get(trial, ()))
        assert replica < self.count, f"trial {trial} has had all its seeds"
        return Run(trial, replica, self.seed + replica)

    def end(self, trial: int, *, value: float, measures: Mapping[str, float] | None = None) -> Average | None:
        """Note that the present run of ``trial`` used its whole budget; the average if it was the last, else None."""
        runs = self.ended.setdefault(trial, [])
        runs.append({**(measures or {}), "value": value})
        return self.average(trial) if len(runs) == self.count else None

    def average(self, trial: int) -> Average:
        """The mean over the runs of ``trial`` that have ended; there must be one."""
        runs = self.ended[trial]
        values = tuple(run["value"] for run in runs)
        measures = {name: fmean(run[name] for run in runs) for name in runs[0] if name != "value"}
        return Average(fmean(values), stdev(values) if len(values) > 1 else None, measures, values)

    def state(self) -> dict[str, Any]:
        """What has ended, as plain data that JSON can hold."""
        return {str(trial): [dict(run) for run in runs] for trial, runs in self.ended.items()}

    def load(self, state: Mapping[str, list[Mapping[str, float]]]) -> None:
        """Take the runs of ``state`` back."""
        self.ended = {int(trial): [dict(run) for run in runs] for trial, runs in state.items()}
