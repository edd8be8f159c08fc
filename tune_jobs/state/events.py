"""What happens in a sweep, as values: the lines of its journal.

A sweep is its settings, its study and these events in order. Everything else that the driver knows of its trials, the
rungs and the budgets used is computed from them, so a driver that died anywhere can be replaced by another.
"""

from math import nan
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from handclip_core.config import Config
from handclip_core.runs.experiment import Experiment
from search_spaces.suggest import Primitive


class _Event(Config):
    """Something that has happened."""

    # A score that is not a number must come back as one.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    at: float
    """When, in seconds since 1970."""


class Opened(_Event):
    """A driver has taken the sweep up; trials that were under way will be begun again."""

    event: Literal["opened"] = "opened"
    """Marks this kind."""
    gpus: float
    """GPUs that a running trial holds."""


class Begun(_Event):
    """The study has suggested a trial."""

    event: Literal["begun"] = "begun"
    """Marks this kind."""
    trial: int
    """Its number in the study."""
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment."""
    experiment: Experiment
    """What it runs."""
    origin: str = "sampled"
    """Why it was tried: ``default``, ``point 0`` and so on, ``sampled``."""
    source: str = ""
    """The trial of another sweep that it was taken over from."""


class Started(_Event):
    """A worker has taken a trial up."""

    event: Literal["started"] = "started"
    """Marks this kind."""
    trial: int
    """Its number."""


class _Unit(_Event):
    """A trial has trained a budget unit."""

    trial: int
    """Its number."""
    replica: int = 0
    """Which of the trial's seeds, counted from 0."""
    unit: int
    """Budget units trained."""
    seconds: float
    """Time that the unit took, validation included."""
    params_trained: int
    """Weights that are being trained."""


class Validated(_Unit):
    """A trial has validated a budget unit. The scores that begin with ``best`` are those of its best weights."""

    event: Literal["validated"] = "validated"
    """Marks this kind."""
    done: bool
    """Whether that was its last one."""
    metrics: dict[str, float]
    """Scores of this unit's weights, and what else was measured."""
    best_map: float
    """Highest validation mAP so far."""
    best_cmc1: float
    """Rank-1 rate that goes with it."""
    best_unit: int
    """The unit that reached it first."""
    best_retention: float = nan
    """The share of zero-shot mAP that it has left in place."""


class Trained(_Unit):
    """A trial has trained a budget unit in which nothing could move retrieval, so that it was not validated."""

    event: Literal["trained"] = "trained"
    """Marks this kind."""


class SeedEnded(_Event):
    """A trial has used the whole budget on one of its seeds."""

    event: Literal["seed_ended"] = "seed_ended"
    """Marks this kind."""
    trial: int
    """Its number."""
    map: float
    """Highest validation mAP of this seed."""
    cmc1: float
    """Rank-1 rate that goes with it."""


class Saved(_Event):
    """A trial's state is in the storage."""

    event: Literal["saved"] = "saved"
    """Marks this kind."""
    trial: int
    """Its number."""
    unit: int
    """Budget units trained by then."""
    checkpoint: str
    """Folder of the state, relative to the sweep's."""
    size: int
    """Bytes."""


class Dropped(_Event):
    """The saved weights of a trial that is over have been deleted."""

    event: Literal["dropped"] = "dropped"
    """Marks this kind."""
    trial: int
    """Its number."""


class Retried(_Event):
    """An attempt at a trial has failed; there will be another."""

    event: Literal["retried"] = "retried"
    """Marks this kind."""
    trial: int
    """Its number."""
    reason: str
    """Why it failed."""
    micro_batch: int | None = None
    """Images per forward and backward pass from now on; none where that stays as it is."""
    anew: bool = False
    """Whether it starts over, because its saved state cannot be used."""


class Moved(_Event):
    """A trial had to leave a machine that is about to go, or is low on memory, and goes on; nobody has failed."""

    event: Literal["moved"] = "moved"
    """Marks this kind."""
    trial: int
    """Its number."""
    reason: str
    """Why it left."""
    alone: bool = False
    """Whether the machine was low on memory though it ran nothing else, so that it may be too small."""


class Cut(_Event):
    """A trial was stopped by a limit of the sweep; it goes on when the limit is raised."""

    event: Literal["cut"] = "cut"
    """Marks this kind."""
    trial: int
    """Its number."""


class Ended(_Event):
    """A trial is over and will never run again."""

    event: Literal["ended"] = "ended"
    """Marks this kind."""
    trial: int
    """Its number."""
    status: Literal["complete", "stopped", "failed"]
    """How it ended."""
    reason: str = ""
    """Why it failed."""


class Alive(_Event):
    """The driver was alive, and nothing else has happened."""

    event: Literal["alive"] = "alive"
    """Marks this kind."""


class Closed(_Event):
    """The driver has left the sweep in order; a driver that died leaves no such line."""

    event: Literal["closed"] = "closed"
    """Marks this kind."""
    reason: str = ""
    """Why it left before the last trial was over, if it did."""


Event = Annotated[
    Opened
    | Begun
    | Started
    | Validated
    | Trained
    | SeedEnded
    | Saved
    | Dropped
    | Retried
    | Moved
    | Cut
    | Ended
    | Alive
    | Closed,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
