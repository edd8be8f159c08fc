"""What the driver knows of one trial, computed from its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan, nan
from statistics import stdev
from typing import Any

from handclip_core.evaluation.metrics import hardly_moved
from handclip_core.runs.experiment import Experiment
from search_spaces.arms import arm_of
from search_spaces.suggest import Primitive
from tune_jobs.state import events
from tune_jobs.state.events import TrialEvent


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

    folder: str | None
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
    backbone: str = ""
    """What the sweep calls its backbone; empty if there is only one."""
    origin: str = "sampled"
    source: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    """Those three as in the event of its beginning."""
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
    num_units: int = 0
    """Units of all seeds that this time was spent on."""
    slowest_s: float = 0.0
    """That of its slowest unit."""
    params_trained: int | None = None
    memory: int = 0
    """Most bytes of a node's memory that a worker of it was seen to hold; 0 if nobody knows."""
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
    started_at: float = 0.0
    """When a worker first took it up, in seconds since 1970; 0 if none has, or it was taken over from another sweep."""
    ended_at: float = 0.0
    """When it was over; 0 before."""
    attempts: int = 0
    """How often a worker has taken it up."""
    failures: int = 0
    """Failed attempts since it last came further than ever before."""
    killed_alone: int = 0
    """Attempts since then that ended for want of memory on a node that ran nothing else."""
    measured: events.Measured | None = None
    """How far it was in its present unit, as long as no trial has had a result from this driver."""
    furthest: tuple[int, int] = (0, -1)
    """The seed and unit that it has ever come to."""

    @property
    def arm(self) -> str:
        """Its strategy, and where there are several its backbone: what it is compared with, and shares costs with."""
        return arm_of(self.strategy, self.backbone)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.number:04d}-{self.strategy}"

    @property
    def score(self) -> float:
        """The objective that its best weights reach, NaN if it has none."""
        return self.score_of(self.metrics)

    def score_of(self, metrics: Mapping[str, float]) -> float:
        """The objective among ``metrics``, NaN if it was not measured."""
        return metrics.get(self.experiment.task.metrics.objective.name, nan)

    @property
    def has_score(self) -> bool:
        """Whether it has a score to be ranked by."""
        return self.status is not Status.FAILED and not isnan(self.score)

    @property
    def is_final_fit(self) -> bool:
        """Whether it trains on the validation identities too, so that it has no score, and has not failed."""
        return self.experiment.part == "train_all" and self.status is not Status.FAILED

    def hardly_moved_by(self, unit: int) -> bool:
        """Whether it was trained for ``unit`` units, and no validation of it differs from another."""
        return self.unit >= unit and hardly_moved(list(self.curve.values()))

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
        return stdev(map(self.score_of, self.seeds)) if len(self.seeds) > 1 else nan

    def keep(self, state: State | None) -> None:
        """Let ``state`` be its last saved one."""
        kept = state or State(None, -1, 0)
        self.checkpoint, self.saved_unit, self.checkpoint_bytes = kept.folder, kept.unit, kept.size

    def apply(self, event: TrialEvent) -> None:
        """Take one more event of this trial into account."""
        match event:
            case events.Started():
                self.status, self.started_at = Status.RUNNING, self.started_at or event.at
                self.attempts += 1
                self.measured = None
            case events.Measured():
                self.measured = event
            case events.Trained() | events.Validated():
                self._trained(event)
            case events.SeedEnded():
                self._seed_ended(event.metrics)
            case events.Saved():
                self.keep(State(event.checkpoint, event.unit, event.size))
            case events.Dropped():
                self.checkpoint, self.checkpoint_bytes = None, 0
            case events.Retried():
                self.status = Status.WAITING
                if event.anew:
                    self.keep(None)
                if event.micro_batch is None:
                    self.failures += 1
                else:  # another try, of which there are only so many, since a batch can be halved only so often
                    self.experiment = self.experiment.model_copy(update={"micro_batch": event.micro_batch})
            case events.Moved():
                self.status = Status.WAITING
                self.killed_alone += event.alone
            case events.Cut():
                self.status = Status.INTERRUPTED
            case events.Ended():
                self.status, self.reason, self.ended_at = Status(event.status), event.reason, event.at
                # Its weights are those of the first seed.
                if self.first is not None:
                    self.keep(self.first)
                    self.first, self.unit, self.done = None, self.saved_unit, True

    def _trained(self, event: events.Trained | events.Validated) -> None:
        """A unit that is trained again after a restart changes what the weights are, not what has been seen."""
        self.unit, self.done, self.measured = event.unit, False, None
        self.seconds += event.seconds
        self.num_units += 1
        self.slowest_s = max(self.slowest_s, event.seconds)
        self.memory = max(self.memory, event.memory)
        self.params_trained = max(self.params_trained or 0, event.params_trained)
        if (event.replica, event.unit) > self.furthest:
            self.furthest, self.failures, self.killed_alone = (event.replica, event.unit), 0, 0
        if isinstance(event, events.Validated):
            self.done, self.present = event.done, event.best
            if event.replica == 0:
                self.metrics, self.best_unit = event.best, event.best_unit
                # What was decided by the first score of a unit stays decided.
                self.curve.setdefault(event.unit, self.score_of(event.metrics))

    def _seed_ended(self, metrics: dict[str, float]) -> None:
        if self.replica == 0 and self.checkpoint is not None:
            self.first = State(self.checkpoint, self.saved_unit, self.checkpoint_bytes)
        self.seeds.append(metrics)
        self.replica += 1
        self.metrics = self.experiment.task.metrics.over_seeds(self.seeds)
        self.status, self.unit, self.done, self.present = Status.WAITING, 0, False, {}
        self.keep(None)  # the next seed begins from no state of this one
