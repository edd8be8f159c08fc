"""What the driver knows of every trial."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan, nan
from typing import Any

from handclip_core.experiment import Experiment
from search_spaces.suggest import Primitive


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


@dataclass
class TrialRecord:
    """One trial. ``map`` and ``cmc1`` are those of its best validation mAP, which its best weights give."""

    number: int
    strategy: str
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment: ``strategy/optim/lr``."""
    experiment: Experiment
    status: Status = Status.WAITING
    unit: int = 0
    """Budget units trained."""
    map: float = nan
    cmc1: float = nan
    best_unit: int = 0
    seconds: float = 0.0
    """Time of training and validation in the worker."""
    params_trained: int | None = None
    reason: str = ""
    """Why it failed."""
    checkpoint: Any = None
    """Ray's handle on its last saved state."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.number:04d}-{self.strategy}"

    @property
    def judged(self) -> bool:
        """Whether it has a score to be ranked by."""
        return self.status is not Status.FAILED and not isnan(self.map)


@dataclass
class Records:
    """All trials of a sweep, by Tune's id, in the order of suggestion."""

    by_id: dict[str, TrialRecord] = field(default_factory=dict)

    def all(self) -> list[TrialRecord]:
        """Every trial in the order of suggestion."""
        return list(self.by_id.values())

    def ranked(self) -> list[TrialRecord]:
        """Every trial: those with a score from best to worst, the earlier of equals first, then all others."""
        judged = sorted((r for r in self.all() if r.judged), key=lambda record: -record.map)
        return judged + [record for record in self.all() if not record.judged]

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the highest validation mAP so far, if any has one."""
        ranked = self.ranked()
        return ranked[0] if ranked and ranked[0].judged else None

    @property
    def winner(self) -> TrialRecord | None:
        """The best of the trials that are over, whose weights have been saved."""
        return next((r for r in self.ranked() if r.judged and r.status.over and r.checkpoint is not None), None)

    def num_over(self) -> int:
        """Trials that will never run again."""
        return sum(record.status.over for record in self.all())
