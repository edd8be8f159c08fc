"""What happens in a sweep, as values: the lines of its journal.

A sweep is these events in order. Everything else that the driver knows of its trials, the rungs and the budgets used is
computed from them, so a driver that died anywhere can be replaced by another.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from handclip_core.config import Config
from handclip_core.runs.experiment import Experiment
from search_spaces.suggest import Primitive

FORMAT = 2
"""The version of the journal's lines. Another one is refused, never guessed at."""


class _Event(Config):
    """Something that has happened."""

    # A score that is not a number must come back as one.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    at: float
    """When, in seconds since 1970."""


class Created(_Event):
    """The journal begins."""

    event: Literal["created"] = "created"
    """Marks this kind."""
    format: int = FORMAT
    """The version of the lines that follow."""
    sweep: str
    """What tells this sweep from any other, wherever it is moved."""


class Opened(_Event):
    """A driver has taken the sweep up; trials that were under way will be begun again."""

    event: Literal["opened"] = "opened"
    """Marks this kind."""
    gpus: float
    """GPUs that a running trial holds."""
    settings: dict[str, Any]
    """The settings with which the sweep goes on."""


class LearnedTrial(Config):
    """A trial of another sweep, as far as a sampler may learn from it."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    strategy: str
    """Name of its strategy."""
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment."""
    complete: bool
    """Whether it used its whole budget; otherwise it was stopped early."""
    values: tuple[float, ...]
    """Its values, an objective each."""
    curve: dict[int, float]
    """The objective by unit; empty with several objectives."""


class Learned(_Event):
    """The search has learned from another sweep, before its first trial."""

    event: Literal["learned"] = "learned"
    """Marks this kind."""
    source: str
    """Where the other sweep is."""
    trials: tuple[LearnedTrial, ...]
    """Those that the search can use."""


class Begun(_Event):
    """A trial has been proposed."""

    event: Literal["begun"] = "begun"
    """Marks this kind."""
    trial: int
    """Its number."""
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment."""
    experiment: Experiment
    """What it runs."""
    origin: str = "sampled"
    """Why it was tried: ``default``, ``point 0`` and so on, ``sampled``, or the name of a fixed experiment."""
    source: str = ""
    """The trial of another sweep that it was taken over from."""
    notes: dict[str, Any] = Field(default_factory=dict)
    """What the sampler needs to find again with the trial."""


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
    images: int
    """Images shown by then."""
    seconds: float
    """Time that the unit took, validation included."""
    params_trained: int
    """Weights that are being trained."""
    training: dict[str, float]
    """Means of the losses and the learning rates, as ``loss/identity`` and ``lr/head``."""


class Validated(_Unit):
    """A trial has validated a budget unit."""

    event: Literal["validated"] = "validated"
    """Marks this kind."""
    done: bool
    """Whether that was its last one."""
    metrics: dict[str, float]
    """Those of this unit's weights."""
    best: dict[str, float]
    """Those of its best weights so far."""
    best_unit: int
    """The unit that reached them first."""


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
    metrics: dict[str, float]
    """Those of the best weights of this seed."""


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
    """Images per forward and backward pass from now on; none if that stays as it is."""
    anew: bool = False
    """Whether it starts over, because its saved state cannot be used."""


class Moved(_Event):
    """A trial had to leave a node that is about to go, or is low on memory, and goes on; it has not failed."""

    event: Literal["moved"] = "moved"
    """Marks this kind."""
    trial: int
    """Its number."""
    reason: str
    """Why it left."""
    alone: bool = False
    """Whether the node was low on memory though it ran nothing else, so that it may be too small."""


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


class Mixture(Config):
    """A mixture of the weights of trials, as a row of the leaderboard."""

    name: str
    """Such as ``soup`` or ``wise-ft``."""
    status: str
    """What was mixed."""
    metrics: dict[str, float]
    """On the validation split."""


class Mixed(_Event):
    """The weights of the best trials were mixed and measured, at the end of the sweep."""

    event: Literal["mixed"] = "mixed"
    """Marks this kind."""
    mixtures: tuple[Mixture, ...]
    """Best first."""


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


TrialEvent = Started | Validated | Trained | SeedEnded | Saved | Dropped | Retried | Moved | Cut | Ended
"""What happens to a trial after it was begun."""
Event = Annotated[
    Created | Opened | Learned | Begun | TrialEvent | Mixed | Alive | Closed,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
