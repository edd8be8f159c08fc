"""What happens in a sweep, as values: the lines of its journal.

A sweep is these events in order; all that the driver knows of trials, rungs and budgets used is computed from them.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from handclip_core.config import Config
from handclip_core.runs.experiment import Experiment
from search_spaces.suggest import Primitive

FORMAT = 2
"""The version of the journal's lines. Another one is refused, never guessed at."""


class _WithScores(Config):
    # A score that is not a number must come back as one.
    model_config = ConfigDict(ser_json_inf_nan="constants", allow_inf_nan=True)


class _Event(_WithScores):
    """Something that has happened; ``event`` names its kind."""

    at: float
    """When, in seconds since 1970."""


class _OfTrial(_Event):
    """Something that has happened to the trial of that number."""

    trial: int


class Created(_Event):
    """The journal begins."""

    event: Literal["created"] = "created"
    format: int = FORMAT
    sweep: str
    """What tells this sweep from any other, wherever it is moved."""


class Opened(_Event):
    """A driver has taken the sweep up with these settings; trials that were under way will be begun again."""

    event: Literal["opened"] = "opened"
    gpus: float
    """GPUs that a running trial holds."""
    settings: dict[str, Any]


class LearnedTrial(_WithScores):
    """A trial of another sweep, as far as a sampler may learn from it."""

    strategy: str
    """The strategy; where there are several backbones the arm, ``full@ViT-B-32``."""
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment."""
    complete: bool
    """Whether it used its whole budget; otherwise it was stopped early."""
    values: tuple[float, ...]
    """Its values, an objective each."""
    curve: dict[int, float]
    """The objective by unit; empty with several objectives."""


class Learned(_Event):
    """The search has learned from the sweep at ``source``, before its first trial."""

    event: Literal["learned"] = "learned"
    source: str
    trials: tuple[LearnedTrial, ...]


class Begun(_OfTrial):
    """A trial has been proposed."""

    event: Literal["begun"] = "begun"
    params: dict[str, Primitive]
    """What was drawn, by the field's path in an experiment: ``strategy/optim/lr``."""
    experiment: Experiment
    origin: str = "sampled"
    """Why it was tried: ``default``, ``point 0`` and so on, ``sampled``, or the name of a fixed experiment."""
    source: str = ""
    """The trial of another sweep that it was taken over from."""
    notes: dict[str, Any] = Field(default_factory=dict)
    """What the sampler needs to find again with the trial."""


class Started(_OfTrial):
    """A worker has taken a trial up."""

    event: Literal["started"] = "started"


class Measured(_OfTrial):
    """A trial is amid a budget unit, and no trial has had a result since the driver took the sweep up."""

    event: Literal["measured"] = "measured"
    images: int
    """Images shown of this unit, of ``unit_images``."""
    unit_images: int
    left_s: float
    """Seconds until the others have been shown too, at the speed so far."""


class _Unit(_OfTrial):
    """A trial has trained a budget unit."""

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
    """Means of losses and accuracy, and learning rates, as ``loss/identity``, ``train_accuracy`` and ``lr/head``."""
    memory: int = 0
    """Most bytes that one of its workers has held so far; 0 if nobody knows."""


class Trained(_Unit):
    """A trial has trained a unit in which nothing could move retrieval, so that it was not validated."""

    event: Literal["trained"] = "trained"


class Validated(_Unit):
    """A trial has trained and validated a unit, its last one if ``done``."""

    event: Literal["validated"] = "validated"
    done: bool
    metrics: dict[str, float]
    """Those of this unit's weights."""
    best: dict[str, float]
    """Those of its best weights so far, which ``best_unit`` reached first."""
    best_unit: int


class SeedEnded(_OfTrial):
    """A trial has used the whole budget on one of its seeds, whose best weights have these metrics."""

    event: Literal["seed_ended"] = "seed_ended"
    metrics: dict[str, float]


class Saved(_OfTrial):
    """A trial's state is in the storage."""

    event: Literal["saved"] = "saved"
    unit: int
    """Budget units trained by then."""
    checkpoint: str
    """Folder of the state, relative to the sweep's."""
    size: int
    """Bytes."""


class Dropped(_OfTrial):
    """The saved weights of a trial that is over have been deleted."""

    event: Literal["dropped"] = "dropped"


class Retried(_OfTrial):
    """An attempt at a trial has failed; there will be another."""

    event: Literal["retried"] = "retried"
    reason: str
    micro_batch: int | None = None
    """Images per forward and backward pass from now on; none if that stays as it is."""
    anew: bool = False
    """Whether it starts over, because its saved state cannot be used."""


class Moved(_OfTrial):
    """A trial had to leave a node that is about to go, or is low on memory, and goes on; it has not failed."""

    event: Literal["moved"] = "moved"
    reason: str
    alone: bool = False
    """Whether the node was low on memory though it ran nothing else, so that it may be too small."""


class Cut(_OfTrial):
    """A trial was stopped by a limit of the sweep; it goes on when the limit is raised."""

    event: Literal["cut"] = "cut"


class Ended(_OfTrial):
    """A trial is over and will never run again; ``reason`` says why it failed, if it did."""

    event: Literal["ended"] = "ended"
    status: Literal["complete", "stopped", "failed"]
    reason: str = ""


class Mixture(Config):
    """A mixture of the weights of trials, as a row of the leaderboard."""

    name: str
    """The strategy whose weights were mixed; where there are several backbones the arm."""
    status: str
    """What was mixed."""
    metrics: dict[str, float]
    """On the validation split."""


class Mixed(_Event):
    """The weights of the best trials were mixed and measured, at the end of the sweep; best first."""

    event: Literal["mixed"] = "mixed"
    mixtures: tuple[Mixture, ...]


class Alive(_Event):
    """The driver was alive, and nothing else has happened."""

    event: Literal["alive"] = "alive"


class Closed(_Event):
    """The driver has left the sweep in order, before the last trial was over if there is a ``reason``."""

    event: Literal["closed"] = "closed"
    reason: str = ""


TrialEvent = Started | Measured | Validated | Trained | SeedEnded | Saved | Dropped | Retried | Moved | Cut | Ended
"""What happens to a trial after it was begun."""
Event = Annotated[
    Created | Opened | Learned | Begun | TrialEvent | Mixed | Alive | Closed, Field(discriminator="event")
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
