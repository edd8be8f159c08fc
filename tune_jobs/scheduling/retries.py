"""Whether a trial whose attempt failed is begun again, and with what."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from handclip_core.runs.experiment import Experiment
from tune_jobs.scheduling.low_memory import LowMemory
from tune_jobs.state.events import Ended, Moved, Retried
from tune_jobs.state.trial import Status, TrialView

TRIES_ALONE = 2
"""Attempts that a trial gets on nodes that run nothing else, before it counts as too large for them."""


class FailureKind(Enum):
    """What can be done about a failure."""

    FATAL = auto()
    """It would happen again."""
    OUT_OF_MEMORY = auto()
    """Smaller parts of a batch may do."""
    LOW_MEMORY = auto()
    """Its node was low on memory, whoever took that; it may go better with fewer trials at a time."""
    LOST_CHECKPOINT = auto()
    """The trial must start over."""
    NODE = auto()
    """It may go better on another node."""
    TRANSIENT = auto()
    """It may go better next time."""
    MOVED = auto()
    """None: its node was taken away, after notice."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt at a trial ended, in one line, and of what kind that is."""

    reason: str
    kind: FailureKind
    actor: str = ""
    """Ray's name of the worker, if that has ended."""
    low_memory: LowMemory | None = None
    """How its node stood, if that was low on memory."""
    alone: bool = False
    """Whether that node ran nothing else then."""


def after_failure(
    view: TrialView, failure: Failure, *, retries: int, at: float, on_cpu: bool = True
) -> Retried | Moved | Ended:
    """What follows a failed attempt at ``view``'s trial.

    A failure that would happen again ends it. One for want of memory halves the images per pass, as often as that is
    possible without moving batch statistics. Any other is tried again up to ``retries`` times without the trial getting
    further than before; what was not the trial's own doing does not count.
    """
    number, reason = view.number, failure.reason
    if failure.kind is FailureKind.LOW_MEMORY:
        return _after_low_memory(view, failure, on_cpu=on_cpu, at=at)
    if failure.kind is FailureKind.MOVED:
        return Moved(at=at, trial=number, reason=reason)
    if failure.kind is FailureKind.OUT_OF_MEMORY and (half := halved(view.experiment)) is not None:
        return Retried(at=at, trial=number, reason=reason, micro_batch=half)
    if failure.kind is not FailureKind.FATAL and view.failures < retries:
        return Retried(at=at, trial=number, reason=reason, anew=failure.kind is FailureKind.LOST_CHECKPOINT)
    return Ended(at=at, trial=number, status="failed", reason=reason)


def _after_low_memory(view: TrialView, failure: Failure, *, on_cpu: bool, at: float) -> Retried | Moved | Ended:
    """Try again; if the trial had its node to itself, once as it is, then with less and less at a time."""
    number, reason, began = view.number, failure.reason, view.status is Status.RUNNING
    if not failure.alone or view.killed_alone == 0:
        return Moved(at=at, trial=number, reason=reason, alone=failure.alone)
    # Smaller parts of a batch help neither a worker that was killed before its trial began, nor beside a GPU.
    if began and on_cpu and (half := halved(view.experiment)) is not None:
        return Retried(at=at, trial=number, reason=reason, micro_batch=max(1, half // 2))
    if view.killed_alone < TRIES_ALONE and not (began and view.experiment.micro_batch is not None):
        return Moved(at=at, trial=number, reason=reason, alone=True)
    return Ended(at=at, trial=number, status="failed", reason=f"does not fit, though nothing else ran there: {reason}")


def halved(experiment: Experiment) -> int | None:
    """Half the images per pass, None if there is nothing to halve, or statistics would move with what is left."""
    given = experiment.micro_batch
    images = largest_batch(experiment.strategy.model_dump()) if given is None else given
    return images // 2 if images >= 2 and experiment.backbone.batch_norm == "fixed" else None


def largest_batch(values: Any) -> int:
    """The largest ``batch_size`` anywhere in the settings ``values``, 0 if there is none."""
    if isinstance(values, list | tuple):
        return max(map(largest_batch, values), default=0)
    if not isinstance(values, dict):
        return 0
    own = values.get("batch_size")
    return max([own if isinstance(own, int) else 0, *map(largest_batch, values.values())])
