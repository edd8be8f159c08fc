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
class TrialView:
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
class Trials:
    """All trials of a sweep, by number, and what they have used."""

    trials: dict[int, TrialView] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    sweep: str = ""
    """What tells this sweep from any other."""
    settings: dict[str, Any] | None = None
    """Those of its last driver."""
    learned: tuple[LearnedTrial, ...] | None = None
    """What the search has learned from another sweep; None if it has not been looked at."""
    mixtures: tuple[Mixture, ...] = ()
    """Mixtures of its best trials, if it has come to its end."""
    _open: dict[int, TrialView] = field(init=False)
    _holding: dict[int, TrialView] = field(init=False)

    def __post_init__(self) -> None:
        self._open = {number: view for number, view in self.trials.items() if not view.status.over}
        self._holding = {number: view for number, view in self.trials.items() if view.checkpoint is not None}

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

    def all(self) -> list[TrialView]:
        """Every trial in the order of suggestion."""
        return list(self.trials.values())

    def unfinished(self) -> list[TrialView]:
        """Trials that are not over, in the order of suggestion."""
        return list(self._open.values())

    def holding(self) -> list[TrialView]:
        """Trials with a saved state, in the order of their first one."""
        return list(self._holding.values())

    def ranked(self) -> list[TrialView]:
        """Every trial: those with a score from best to worst, the earlier of equals first, then all others."""
        scored = sorted((r for r in self.all() if r.has_score), key=lambda view: -view.score)
        return scored + [view for view in self.all() if not view.has_score]

    @property
    def best(self) -> TrialView | None:
        """The trial with the highest score so far, if any has one."""
        return max((r for r in self.trials.values() if r.has_score), key=lambda view: view.score, default=None)

    @property
    def winner(self) -> TrialView | None:
        """The best of the trials that no worker runs and whose best weights have been saved."""
        idle = (r for r in self.trials.values() if r.has_score and r.best_is_saved and r.status is not Status.RUNNING)
        return max(idle, key=lambda view: view.score, default=None)

    def num_over(self) -> int:
        """Trials that will never run again."""
        return len(self.trials) - len(self._open)

    def _apply_to(self, view: TrialView, event: TrialEvent) -> None:
        _apply(view, event)
        if view.status.over:
            self._open.pop(view.number, None)
        if view.held_bytes or view.checkpoint is not None:
            self._holding[view.number] = view
        else:
            self._holding.pop(view.number, None)

    def _each_unfinished(self, status: Status) -> None:
        for view in self._open.values():
            view.status = status


def score_of(metrics: Mapping[str, float]) -> float:
    """The objective among ``metrics``, NaN if it was not measured."""
    return metrics.get(OBJECTIVE.name, nan)


def folded(events: Iterable[Event]) -> Trials:
    """What the driver knows of every trial after ``events``."""
    all_trials = Trials()
    for event in events:
        all_trials.apply(event)
    return all_trials


def _begun(event: Begun) -> TrialView:
    return TrialView(
        event.trial,
        event.experiment.strategy.name,
        event.params,
        event.experiment,
        origin=event.origin,
        source=event.source,
        notes=event.notes,
    )


def _apply(view: TrialView, event: TrialEvent) -> None:
    match event:
        case Started():
            view.status = Status.RUNNING
            view.attempts += 1
        case Trained():
            _trained(view, event)
        case Validated():
            _trained(view, event)
            _validated(view, event)
        case SeedEnded():
            _seed_ended(view, event)
        case Saved():
            view.checkpoint, view.saved_unit = event.checkpoint, event.unit
            view.checkpoint_bytes = event.size
        case Dropped():
            view.checkpoint, view.checkpoint_bytes = None, 0
        case Retried():
            _retried(view, event)
        case Moved():
            view.status = Status.WAITING
            view.killed_alone += event.alone
        case Cut():
            view.status = Status.INTERRUPTED
        case Ended():
            view.status, view.reason = Status(event.status), event.reason
            if view.first is not None:
                _keep(view, view.first)
                view.first, view.unit, view.done = None, view.saved_unit, True


def _trained(view: TrialView, event: Trained | Validated) -> None:
    view.unit, view.done = event.unit, False
    view.seconds += event.seconds
    view.slowest_s = max(view.slowest_s, event.seconds)
    view.params_trained = max(view.params_trained or 0, event.params_trained)
    if (event.replica, event.unit) > view.furthest:
        view.furthest, view.failures, view.killed_alone = (event.replica, event.unit), 0, 0


def _validated(view: TrialView, event: Validated) -> None:
    """A unit that is trained again after a restart changes what the weights are, not what has been seen."""
    view.done = event.done
    view.present = event.best
    if event.replica == 0:
        view.metrics, view.best_unit = event.best, event.best_unit
        view.curve.setdefault(event.unit, score_of(event.metrics))


def _seed_ended(view: TrialView, event: SeedEnded) -> None:
    if view.replica == 0 and view.checkpoint is not None:
        view.first = State(view.checkpoint, view.saved_unit, view.checkpoint_bytes)
    view.seeds.append(event.metrics)
    view.replica += 1
    averaged = [metric.name for metric in METRICS if metric.over_seeds and metric.name in event.metrics]
    view.metrics = view.seeds[0] | {name: fmean(seed[name] for seed in view.seeds) for name in averaged}
    view.status, view.unit, view.done, view.present = Status.WAITING, 0, False, {}
    _keep(view, None)


def _keep(view: TrialView, state: State | None) -> None:
    if state is None:
        view.checkpoint, view.checkpoint_bytes, view.saved_unit = None, 0, -1
    else:
        view.checkpoint, view.checkpoint_bytes, view.saved_unit = state.folder, state.size, state.unit


def _retried(view: TrialView, event: Retried) -> None:
    view.status = Status.WAITING
    if event.anew:
        _keep(view, None)
    if event.micro_batch is None:
        view.failures += 1
    else:  # another try, of which there are only so many, since a batch can be halved only so often
        view.experiment = view.experiment.model_copy(update={"micro_batch": event.micro_batch})
