"""What the driver knows of every trial, computed from the events of the sweep."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan, nan
from statistics import fmean, stdev
from typing import Any

from handclip_core.evaluation.metrics import METRICS, OBJECTIVE
from handclip_core.runs.experiment import Experiment
from search_spaces.suggest import Primitive
from tune_jobs.state.events import (
    Begun,
    Closed,
    Created,
    Cut,
    Dropped,
    Ended,
    Event,
    Learned,
    LearnedTrial,
    Mixed,
    Mixture,
    Moved,
    Opened,
    Retried,
    Saved,
    SeedEnded,
    Started,
    Trained,
    TrialEvent,
    Validated,
)
from tune_jobs.state.usage import Usage


class Status(StrEnum):
    """How far a trial has come."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def over(self) -> bool:
        """Whether the trial will never run again."""
        return self in (Status.COMPLETE, Status.STOPPED, Status.FAILED)


@dataclass(frozen=True)
class State:
    """A saved state: its folder, relative to the sweep's, the budget units trained by then, and its bytes."""

    folder: str
    unit: int
    size: int


@dataclass
class TrialRecord:
    """One trial. ``metrics`` are those of its best weights.

    A trial of several seeds runs one after another; from the second on ``metrics`` are means over those that have
    ended, and its weights are those of the first.
    """

    number: int
    strategy: str
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment: ``strategy/optim/lr``."""
    experiment: Experiment
    origin: str = "sampled"
    """Why it was tried: ``default``, ``point 0`` and so on, ``sampled``."""
    source: str = ""
    """The trial of another sweep that it was taken over from."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the sampler needs to find again with the trial."""
    status: Status = Status.WAITING
    replica: int = 0
    """Seeds that have ended, so the place of the present one."""
    seeds: list[dict[str, float]] = field(default_factory=list)
    """Metrics of the seeds that have ended; of none if a trial has only one."""
    unit: int = 0
    """Budget units trained, on the present seed."""
    done: bool = False
    """Whether that was its last unit."""
    metrics: dict[str, float] = field(default_factory=dict)
    best_unit: int = 0
    seconds: float = 0.0
    """Time of training and validation in the worker, that of units trained twice included."""
    slowest_s: float = 0.0
    """That of its slowest unit."""
    params_trained: int | None = None
    reason: str = ""
    """Why it failed."""
    checkpoint: str | None = None
    """Folder of its last saved state, relative to the sweep's."""
    checkpoint_bytes: int = 0
    saved_unit: int = -1
    """Budget units trained when that was saved."""
    first: State | None = None
    """The state at the end of its first seed, while it trains on others."""
    present: dict[str, float] = field(default_factory=dict)
    """Metrics of the present seed."""
    curve: dict[int, float] = field(default_factory=dict)
    """The objective by unit, as first seen."""
    attempts: int = 0
    """How often a worker has taken it up."""
    failures: int = 0
    """Failed attempts since it last came further than ever before."""
    killed_alone: int = 0
    """Attempts since then that ended for want of memory on a machine that ran nothing else."""
    furthest: tuple[int, int] = (0, -1)
    """The seed and unit that it has ever come to."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.number:04d}-{self.strategy}"

    @property
    def score(self) -> float:
        """The objective that its best weights reach, NaN if it has none."""
        return score_of(self.metrics)

    @property
    def has_score(self) -> bool:
        """Whether it has a score to be ranked by."""
        return self.status is not Status.FAILED and not isnan(self.score)

    @property
    def best_is_saved(self) -> bool:
        """Whether its saved state holds the weights that its score belongs to."""
        return self.checkpoint is not None and self.saved_unit >= self.best_unit and self.first is None

    @property
    def states(self) -> tuple[str, ...]:
        """Its saved states, relative to the sweep's folder."""
        return tuple(state for state in (self.checkpoint, self.first and self.first.folder) if state)

    @property
    def held_bytes(self) -> int:
        """What its saved states take on the disk."""
        return self.checkpoint_bytes + (self.first.size if self.first is not None else 0)

    @property
    def sd(self) -> float:
        """Standard deviation of the score over its seeds, NaN for fewer than two."""
        return stdev(map(score_of, self.seeds)) if len(self.seeds) > 1 else nan


@dataclass
class Records:
    """All trials of a sweep, by number, and what they have used."""

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    sweep: str = ""
    """What tells this sweep from any other."""
    settings: dict[str, Any] | None = None
    """Those of its last driver."""
    learned: tuple[LearnedTrial, ...] | None = None
    """What the search has learned from another sweep; None if it has not been looked at."""
    mixtures: tuple[Mixture, ...] = ()
    """Mixtures of its best trials, if it has come to its end."""
    _open: dict[int, TrialRecord] = field(init=False)
    _holding: dict[int, TrialRecord] = field(init=False)

    def __post_init__(self) -> None:
        self._open = {number: record for number, record in self.trials.items() if not record.status.over}
        self._holding = {number: record for number, record in self.trials.items() if record.checkpoint is not None}

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        self.usage.apply(event)
        match event:
            case Created():
                self.sweep = event.sweep
            case Opened():
                self.settings, self.mixtures = event.settings, ()
                self._each_unfinished(Status.WAITING)
            case Learned():
                self.learned = event.trials
            case Mixed():
                self.mixtures = event.mixtures
            case Closed():
                self._each_unfinished(Status.INTERRUPTED)
            case Begun():
                self.trials[event.trial] = self._open[event.trial] = _begun(event)
            case _ if isinstance(event, TrialEvent):
                self._apply_to(self.trials[event.trial], event)
            case _:
                pass

    def all(self) -> list[TrialRecord]:
        """Every trial in the order of suggestion."""
        return list(self.trials.values())

    def unfinished(self) -> list[TrialRecord]:
        """Trials that are not over, in the order of suggestion."""
        return list(self._open.values())

    def holding(self) -> list[TrialRecord]:
        """Trials with a saved state, in the order of their first one."""
        return list(self._holding.values())

    def ranked(self) -> list[TrialRecord]:
        """Every trial: those with a score from best to worst, the earlier of equals first, then all others."""
        scored = sorted((r for r in self.all() if r.has_score), key=lambda record: -record.score)
        return scored + [record for record in self.all() if not record.has_score]

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the highest score so far, if any has one."""
        return max((r for r in self.trials.values() if r.has_score), key=lambda record: record.score, default=None)

    @property
    def winner(self) -> TrialRecord | None:
        """The best of the trials that no worker runs and whose best weights have been saved."""
        idle = (r for r in self.trials.values() if r.has_score and r.best_is_saved and r.status is not Status.RUNNING)
        return max(idle, key=lambda record: record.score, default=None)

    def num_over(self) -> int:
        """Trials that will never run again."""
        return len(self.trials) - len(self._open)

    def _apply_to(self, record: TrialRecord, event: TrialEvent) -> None:
        _apply(record, event)
        if record.status.over:
            self._open.pop(record.number, None)
        if record.held_bytes or record.checkpoint is not None:
            self._holding[record.number] = record
        else:
            self._holding.pop(record.number, None)

    def _each_unfinished(self, status: Status) -> None:
        for record in self._open.values():
            record.status = status


def score_of(metrics: Mapping[str, float]) -> float:
    """The objective among ``metrics``, NaN if it was not measured."""
    return metrics.get(OBJECTIVE.name, nan)


def folded(events: Iterable[Event]) -> Records:
    """What the driver knows of every trial after ``events``."""
    records = Records()
    for event in events:
        records.apply(event)
    return records


def _begun(event: Begun) -> TrialRecord:
    return TrialRecord(
        event.trial,
        event.experiment.strategy.name,
        event.params,
        event.experiment,
        origin=event.origin,
        source=event.source,
        notes=event.notes,
    )


def _apply(record: TrialRecord, event: TrialEvent) -> None:
    match event:
        case Started():
            record.status = Status.RUNNING
            record.attempts += 1
        case Trained():
            _trained(record, event)
        case Validated():
            _trained(record, event)
            _validated(record, event)
        case SeedEnded():
            _seed_ended(record, event)
        case Saved():
            record.checkpoint, record.saved_unit = event.checkpoint, event.unit
            record.checkpoint_bytes = event.size
        case Dropped():
            record.checkpoint, record.checkpoint_bytes = None, 0
        case Retried():
            _retried(record, event)
        case Moved():
            record.status = Status.WAITING
            record.killed_alone += event.alone
        case Cut():
            record.status = Status.INTERRUPTED
        case Ended():
            record.status, record.reason = Status(event.status), event.reason
            if record.first is not None:
                _keep(record, record.first)
                record.first, record.unit, record.done = None, record.saved_unit, True


def _trained(record: TrialRecord, event: Trained | Validated) -> None:
    record.unit, record.done = event.unit, False
    record.seconds += event.seconds
    record.slowest_s = max(record.slowest_s, event.seconds)
    record.params_trained = max(record.params_trained or 0, event.params_trained)
    if (event.replica, event.unit) > record.furthest:
        record.furthest, record.failures, record.killed_alone = (event.replica, event.unit), 0, 0


def _validated(record: TrialRecord, event: Validated) -> None:
    """A unit that is trained again after a restart changes what the weights are, not what has been seen."""
    record.done = event.done
    record.present = event.best
    if event.replica == 0:
        record.metrics, record.best_unit = event.best, event.best_unit
        record.curve.setdefault(event.unit, score_of(event.metrics))


def _seed_ended(record: TrialRecord, event: SeedEnded) -> None:
    if record.replica == 0 and record.checkpoint is not None:
        record.first = State(record.checkpoint, record.saved_unit, record.checkpoint_bytes)
    record.seeds.append(event.metrics)
    record.replica += 1
    averaged = [metric.name for metric in METRICS if metric.over_seeds and metric.name in event.metrics]
    record.metrics = record.seeds[0] | {name: fmean(seed[name] for seed in record.seeds) for name in averaged}
    record.status, record.unit, record.done, record.present = Status.WAITING, 0, False, {}
    _keep(record, None)


def _keep(record: TrialRecord, state: State | None) -> None:
    if state is None:
        record.checkpoint, record.checkpoint_bytes, record.saved_unit = None, 0, -1
    else:
        record.checkpoint, record.checkpoint_bytes, record.saved_unit = state.folder, state.size, state.unit


def _retried(record: TrialRecord, event: Retried) -> None:
    record.status = Status.WAITING
    if event.anew:
        _keep(record, None)
    if event.micro_batch is None:
        record.failures += 1
    else:  # another try, of which there are only so many, since a batch can be halved only so often
        record.experiment = record.experiment.model_copy(update={"micro_batch": event.micro_batch})
