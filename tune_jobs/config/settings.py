"""The settings of a sweep: one YAML file, single keys overridden on the command line."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from handclip_core.config import Config
from handclip_core.data.sources import DataSettings, DrawnData
from handclip_core.devices import Device
from handclip_core.documents import parse_yaml, read_document, shortened
from handclip_core.engine.precision import Precision
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.paths import SWEEP_SETTINGS
from handclip_core.runs.experiment import Experiment, refuse_images_only
from handclip_core.strategies import Strategy, refusal
from handclip_core.tasks import IDENTITIES, AnyTask
from search_spaces.arms import arm_of, backbone_in
from search_spaces.by_task import SPACES, spaces_of
from search_spaces.joint import JointSpace
from search_spaces.spaces import default_of
from tune_jobs.config.backbones import SearchedBackbones, as_tuple, can_use, labels
from tune_jobs.config.changes import MayChange
from tune_jobs.config.search import Search
from tune_jobs.storage.location import LocationSetting

SETTINGS = SWEEP_SETTINGS
DATA_SOURCE = ("data", "source")
MOVING_STATISTICS = (
    "statistics that move with the batches are not those of shared batches; set backbone.batch_norm: fixed"
)
"""Why such a backbone cannot be trained by several workers."""
QUICKSTART = Path(__file__).with_name("quickstart.yaml")


class StoppingKind(StrEnum):
    """Which trials are compared when weak ones are stopped early."""

    PER_STRATEGY = "per_strategy"
    ASHA = "asha"
    MEDIAN = "median"
    NONE = "none"


class EarlyStopping(Config):
    """When weak trials are stopped, by validation mAP over budget units."""

    kind: StoppingKind = StoppingKind.PER_STRATEGY
    """``per_strategy`` is successive halving (Li 2020, arXiv 1810.05934) among trials of one strategy, and of several
    backbones on one; ``asha`` the same among all trials, which is hard on slow starters; ``median`` stops what is below
    the median of its strategy's trials on its backbone; ``none`` lets every trial finish."""
    grace: int = Field(2, ge=1)
    """Units that every trial gets; the first rung."""
    reduction: int = Field(3, ge=2, le=20)
    """One in so many trials goes on after a rung, and rungs stand so many times further apart."""

    @property
    def second_rung(self) -> int:
        """The unit by which a trial that learns anything has moved."""
        return self.grace * self.reduction


class Limits(Config):
    """What a sweep may use, over all of its drivers.

    At a limit no trial is begun any more, and those that run are stopped after their unit; with a higher limit
    ``--resume`` goes on from there.
    """

    hours: float | None = Field(None, gt=0)
    """Hours of the driver; none for no limit."""
    gpu_hours: float | None = Field(None, gt=0)
    """GPUs held by trials, times hours."""
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """What a GPU costs an hour, in any currency: only to say what the sweep has cost."""
    disk_gib: float | None = Field(None, gt=0)
    """GiB of saved states. Where it gets tight, the weights of good trials go first, but never those of the best."""


class Resources(Config):
    """What a trial needs, and how many run at a time."""

    device: Device = Device.AUTO
    """``auto`` takes GPUs if the cluster has any."""
    cpus: int = Field(1, ge=1)
    """CPU cores a trial, and its number of threads."""
    gpus: float = Field(1.0, gt=0, le=8)
    """GPUs a process of a trial where GPUs are used; a fraction below 1 lets several trials share one."""
    workers: int = Field(1, ge=1, le=64)
    """Processes a trial, each with so many CPUs and GPUs; they share its batches, and its results stay the same."""
    concurrent: int | None = Field(None, ge=1)
    """Most trials at a time; none for as many as the cluster holds, which may change while the sweep runs."""
    waiting: int = Field(0, ge=0, le=1000)
    """Trials that wait for a node beside those that have one. For clusters that add nodes when something waits:
    so many are asked for at a time, and a cluster that holds none yet is waited for."""

    @field_validator("gpus")
    @classmethod
    def _above_one_whole(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"{gpus:g} GPUs: above 1 Ray gives out whole ones alone")
        return gpus


class Tracking(Config):
    """Trackers that get a run a trial when it is over; the sweep goes on without one that does not answer."""

    mlflow: str | None = Field(None, min_length=1)
    """Tracking URI of MLflow, as ``http://HOST:5000`` or ``sqlite:////shared/mlflow.db``. Needs ``pip install
    mlflow``."""
    wandb: Literal["offline", "online"] | None = None
    """Weights & Biases; offline runs are written into ``wandb/`` in the sweep's folder, for ``wandb sync``. Needs
    ``pip install wandb``."""

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return self.mlflow is not None or self.wandb is not None


class SweepSettings(Config):
    """Everything that fixes a sweep."""

    name: MayChange[str] = Field("sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Name of the sweep's folder under ``storage``."""
    task: AnyTask = IDENTITIES
    """What is learned, and how it is judged."""
    data: DataSettings = DrawnData()
    """Which images."""
    backbone: SearchedBackbones = BackboneSettings()
    """Which CLIP, by its name or with more settings. A list, ``[handclip-nano, {name: ViT-B-32, pretrained: openai}]``,
    searches among several: every strategy is tried on each."""
    strategies: tuple[str, ...] = Field(default_factory=lambda given: tuple(spaces_of(given.get("task", IDENTITIES))))
    """Strategies to choose among, by default all that serve the task; each one's default is tried first, on each
    backbone."""
    trials: int = Field(50, ge=1)
    """Number of trials, defaults included."""
    budget: int = Field(8, ge=1, le=100_000)
    """Budget units a trial: images shown, in epochs of the training split."""
    precision: Precision = Precision.AUTO
    """What towers compute in while they train: float32 or bfloat16; ``auto`` takes what is faster on a trial's device,
    see ``precision`` of an experiment. Name one where nodes of several kinds are to train alike."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of the search and of every trial."""
    search: Search = Search()
    """How trials are chosen."""
    early_stopping: EarlyStopping = EarlyStopping()
    """When a weak trial is stopped."""
    resources: MayChange[Resources] = Resources()
    """What a trial runs on."""
    limits: MayChange[Limits] = Limits()
    """When the sweep ends before its last trial."""
    retries: MayChange[int] = Field(2, ge=0)
    """Times that a trial which failed is begun again from its last saved state without having got any further."""
    stall_minutes: MayChange[float] = Field(60.0, gt=0)
    """Minutes without a finished unit after which a trial's worker counts as lost. Never less than five times the
    slowest unit that a trial of its strategy on its backbone has had, and twice as long after each failure in a row."""
    keep_checkpoints: MayChange[int] = Field(3, ge=1)
    """Weights of so many best trials are kept; logs and settings of all of them are."""
    mixtures: MayChange[bool] = False
    """Soups and WiSE-FT of the kept weights of every strategy as rows of the leaderboard, chosen and scored on the same
    validation images: a pass over these each, at the sweep's end. The finals score them on fresh seeds in any case."""
    checkpoint_every_s: MayChange[float] = Field(60.0, ge=0)
    """Seconds of training after which a running trial saves its state; it always does when it ends."""
    tracking: MayChange[Tracking] = Tracking()
    """MLflow and Weights & Biases; off unless asked for."""
    warm_start: LocationSetting | None = None
    """Another sweep, by its folder, the URI of one in a bucket, or its name in ``storage``: the search learns from its
    trials before the first one, as far as the spaces agree."""
    storage: MayChange[LocationSetting] = Path("runs")
    """Folder for sweeps; on a cluster of several nodes, one that all of them share. Or a place in a bucket, as
    ``s3://bucket/runs``."""

    @property
    def backbones(self) -> tuple[BackboneSettings, ...]:
        """The backbone, or all that are searched among."""
        return as_tuple(self.backbone)

    @property
    def arms(self) -> tuple[str, ...]:
        """Every strategy on every backbone that it can use, as names; the strategies where there is one backbone."""
        named = labels(self.backbones)
        return tuple(
            arm_of(strategy, named[backbone])
            for strategy in self.strategies
            for backbone in self.backbones
            if can_use(strategy, backbone)
        )

    @property
    def space(self) -> JointSpace:
        """What is searched of every arm, as narrowed."""
        return self.search.space(self.arms, self.task)

    def backbone_of(self, arm: str) -> BackboneSettings:
        """The backbone of an arm; raises InputError if it is none of the sweep's."""
        wanted = backbone_in(arm)
        for backbone, label in labels(self.backbones).items():
            if label == wanted:
                return backbone
        raise InputError(f"{arm}: its backbone is not in this sweep; choose from {', '.join(self.arms)}")

    def arm_of(self, experiment: Experiment) -> str:
        """The arm of an experiment; raises ValueError if its backbone is none of the sweep's."""
        label = labels(self.backbones).get(experiment.backbone)
        if label is None:
            raise ValueError(f"backbone {experiment.backbone.name} is not in this sweep")
        return arm_of(experiment.strategy.name, label)

    def experiment(self, strategy: Strategy, backbone: BackboneSettings) -> Experiment:
        """What a trial of ``strategy`` on ``backbone`` runs."""
        given = {
            "task": self.task,
            "data": self.data,
            "backbone": backbone,
            "seed": self.seed,
            "budget": self.budget,
            "precision": self.precision,
        }
        return Experiment.model_validate(given | {"strategy": strategy})

    @field_validator("search")
    @classmethod
    def _objective_is_the_tasks(cls, search: Search, info: ValidationInfo) -> Search:
        # A task that is refused tells so itself.
        return search.judged_by(info.data["task"].metrics) if "task" in info.data else search

    @field_validator("strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "task" not in info.data:
            return names
        task: AnyTask = info.data["task"]
        spaces = spaces_of(task)
        for name in names:
            if name in spaces:
                continue
            choices = f"choose from {', '.join(spaces)}"
            if not any(name in of_a_task for of_a_task in SPACES.values()):
                raise ValueError(f"unknown strategy '{name}'; {choices}")
            reason = refusal(type(default_of(name)), task, choices=tuple(spaces))
            raise ValueError(reason or f"{name} is not searched in the task {task.name}; {choices}")
        if not names or len(set(names)) != len(names):
            raise ValueError("name each strategy once, and at least one")
        return names

    @model_validator(mode="after")
    def _defaults_fit(self) -> Self:
        arms = self.arms
        defaults, several = len(arms), len(self.backbones) > 1
        what = f"{len(self.strategies)} strategies" + (f" on {len(self.backbones)} backbones" if several else "")
        if self.trials < defaults:
            raise ValueError(
                f"trials: {self.trials} are too few for the defaults of {what}; set trials to {defaults} or more"
            )
        self.search.check(arms, self.task)
        points = len(self.search.drafts(arms, self.task))
        if self.trials < defaults + points:
            raise ValueError(
                f"search.points: {points} after the defaults of {what} are more than trials: "
                f"{self.trials}; set trials to {defaults + points} or more"
            )
        return self

    @model_validator(mode="after")
    def _backbones_can_read(self) -> Self:
        for backbone in self.backbones:
            refuse_images_only(backbone, self.task)
        return self

    @model_validator(mode="after")
    def _workers_share_batches(self) -> Self:
        if self.resources.workers > 1 and any(one.batch_norm == "moving" for one in self.backbones):
            raise ValueError(f"resources.workers: {MOVING_STATISTICS}")
        return self


def load_settings(file: Path, *, overrides: Sequence[str] = (), name: str | None = None) -> SweepSettings:
    """The settings in ``file`` with ``key.sub=value`` overrides; raises InputError if any of it is wrong."""
    values = read_document(file)
    # An empty file leaves all defaults.
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{file}: not a mapping of settings")
    named = {} if name is None else {"name": name}
    return _overridden(values, overrides, named, source=f"{file} with --set" if overrides else str(file))


def with_overrides(settings: SweepSettings, overrides: Sequence[str], *, source: str) -> SweepSettings:
    """``settings`` with ``key.sub=value`` overrides; raises InputError, which names ``source``, if one is wrong."""
    return _overridden(settings.model_dump(mode="json"), overrides, {}, source=source)


def _overridden(
    values: dict[str, Any], overrides: Sequence[str], more: dict[str, Any], *, source: str
) -> SweepSettings:
    for path, value, override in sorted((_parsed(item) for item in overrides), key=lambda item: _place(item[0])):
        _override(values, path, value, override)
    return SweepSettings.parse(values | more, source=source)


def dump_settings(settings: SweepSettings) -> str:
    """The complete settings as YAML, defaults included."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parsed(override: str) -> tuple[tuple[str, ...], Any, str]:
    """The path and the value of ``key.sub=value``, and a name for messages."""
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    named = f"--set '{shortened(override, 80)}'"
    if not equals or not all(path):
        raise InputError(f"{named}: write key=value or key.sub=value")
    return path, parse_yaml(text, source=named), named


def _place(path: tuple[str, ...]) -> tuple[int, bool]:
    """Groups come before their parts, and what decides which parts there are before the others, however typed."""
    return len(path), path != DATA_SOURCE


def _override(values: dict[str, Any], path: tuple[str, ...], value: Any, named: str) -> None:
    data = values.get("data", {})
    if path == DATA_SOURCE and isinstance(data, dict) and value != data.get("source"):
        # Another source has other keys; those of the old one would only be in the way.
        values["data"] = {}
    for depth, part in enumerate(path[:-1], start=1):
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{named}: '{'.'.join(path[:depth])}' holds a value, not keys")
    values[path[-1]] = value
