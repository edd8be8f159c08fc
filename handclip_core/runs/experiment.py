"""An experiment: strategy, data, backbone, seed and budget; and the one function that runs it."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Self

import torch
from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.data.inputs import Inputs
from handclip_core.data.sources import DataSettings, DrawnData
from handclip_core.data.training import Part
from handclip_core.engine.feed import PhaseFeed
from handclip_core.engine.loop import Budget, Point, step_seed, train
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Phase, milestones_of
from handclip_core.engine.state import Resume, TrainingState
from handclip_core.evaluation.embed import aspect_accuracy, embed
from handclip_core.evaluation.metrics import RETENTION
from handclip_core.evaluation.protocol import METRICS, ProtocolScores, score_draws
from handclip_core.evaluation.retention import retention
from handclip_core.expert_shares import choose_shares
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.context import Bench, Split, open_bench
from handclip_core.strategies import AnyStrategy

ASPECT_ACCURACY = "aspect_accuracy"


class Experiment(Config):
    """Everything that fixes a training run; its JSON alone runs it again."""

    strategy: AnyStrategy
    """How CLIP is fine-tuned."""
    data: DataSettings = DrawnData()
    """Which pictures."""
    backbone: BackboneSettings = BackboneSettings()
    """Which CLIP."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Fixes the order of the pictures, the random weights and the augmentation."""
    budget: int = Field(10, ge=1, le=100_000)
    """Budget units: images shown, in epochs of the training split. The run reports once a unit."""
    micro_batch: int | None = Field(None, ge=1, le=65536)
    """Most pictures that the image tower trains on at a time; none for whole batches. Saves memory, changes no sum."""
    part: Part = "train"
    """``train_all`` adds the validation people, for a final fit; its validation scores are those of people seen."""

    @model_validator(mode="after")
    def _parts_are_the_whole(self) -> Self:
        if self.micro_batch is not None and self.backbone.batch_norm == "moving":
            raise ValueError(
                "micro_batch: statistics that move with the batches are not those of a batch in parts; set "
                "backbone.batch_norm: fixed"
            )
        return self


@dataclass(frozen=True)
class Assembled:
    """An experiment's model and phases, ready to train."""

    bench: Bench
    model: HandModel
    phases: tuple[Phase, ...]
    budget: Budget
    seed: int

    def inputs(self, phase: int) -> Inputs:
        """Inputs of the evaluation of phase ``phase``: what the blocks that are as pretrained have made of pictures."""
        return self.bench.inputs_after(self.untouched_blocks(phase))

    def feed(self, phase: int) -> PhaseFeed:
        """The batches of phase ``phase``."""
        inputs = self.bench.inputs_after(self.cached_blocks(phase))
        return PhaseFeed(self.phases[phase].data, inputs, seed=step_seed(self.seed, phase, 0), device=self.bench.device)

    def cached_blocks(self, phase: int) -> int:
        """Leading blocks of the backbone whose work phase ``phase`` reads from a file; augmented pictures need them."""
        return 0 if self.phases[phase].data.augment.active else self.untouched_blocks(phase)

    def untouched_blocks(self, phase: int) -> int:
        """Leading blocks of the backbone that no phase up to this one trains, and to which nothing was added."""
        trained = {item.name for spec in self.phases[: phase + 1] for item in choose(self.model, spec.train)}
        return self.model.untouched_blocks(self.bench.template, trained)


@dataclass(frozen=True)
class Progress:
    """A run at a whole budget unit. ``state`` is live: use it before taking the next item.

    ``metrics`` holds the names in METRICS, means over aspects and draws of the validation split, RETENTION, and
    ASPECT_ACCURACY for models that tell aspects; nothing where the phase cannot have moved retrieval. ``train_s`` is
    seconds of training since the last item, validation not counted; ``params_trained`` how many weights the phase
    trains.
    """

    unit: int
    images: int
    phase: str
    metrics: dict[str, float]
    train_s: float
    losses: dict[str, float]
    learning_rates: dict[str, float]
    params_trained: int
    state: TrainingState

    @property
    def evaluated(self) -> bool:
        """Whether the run was validated at this unit."""
        return bool(self.metrics)


def assemble(experiment: Experiment, bench: Bench) -> Assembled:
    """Build model and phases; raises InputError where the strategy does not fit the data."""
    data = bench.training_data(experiment.part)
    torch.manual_seed(experiment.seed)
    model = experiment.strategy.build(bench.backbone(text=experiment.strategy.reads_text), data).to(bench.device)
    phases = experiment.strategy.phases(model, data)
    return Assembled(bench, model, phases, Budget(experiment.budget, data.num_images), experiment.seed)


def run(
    experiment: Experiment, *, device: torch.device, resume: Resume | None = None
) -> Generator[Progress, None, None]:
    """Train and yield a Progress at every whole budget unit; without phases, yield once, at unit 0.

    Closing the generator stops the run. With ``resume`` it goes on from a saved state, bit for bit on the CPU. Raises
    InputError for unusable settings and DivergedError for a loss that is not finite.
    """
    bench = open_bench(experiment.data, experiment.backbone, device)
    ready = assemble(experiment, bench)
    if not ready.phases:
        if resume is None:
            yield _untrained(ready)
        return
    points = train(
        ready.model,
        ready.phases,
        feed=ready.feed,
        budget=ready.budget,
        seed=experiment.seed,
        micro_batch=experiment.micro_batch,
        resume=resume,
    )
    for point in points:
        if point.milestone:
            scores = score(ready.bench, ready.model, ready.inputs(point.phase_index), "val")
            point.state.milestones.append(_by_aspect(scores, milestones_of(ready.phases)))
        else:
            yield _progress(ready, point)


def score(ready_bench: Bench, model: HandModel, inputs: Inputs, split: Split) -> ProtocolScores:
    """Scores of ``model`` over the draws of ``split``."""
    rows = ready_bench.rows(split)
    embeddings = embed(model, inputs, rows, aspects=ready_bench.aspect_indices, device=ready_bench.device)
    return score_draws(
        embeddings,
        rows,
        ready_bench.draws(split),
        ready_bench.identities,
        gallery=ready_bench.gallery,
        similarity=model.similarity,
    )


def metrics_of(scores: ProtocolScores, bench: Bench) -> dict[str, float]:
    """The means over aspects and draws of the validation split, by the names in METRICS, and RETENTION."""
    means = {name: float(getattr(scores.overall, name).mean) for name in METRICS}
    return means | {RETENTION: retention(scores.queries, bench.zero_shot_queries)}


def _by_aspect(scores: ProtocolScores, aspects: Sequence[str]) -> list[float]:
    """Validation mAP of each aspect; NaN where it has no query."""
    return [float(scores.per_aspect[name].map.mean) if name in scores.per_aspect else nan for name in aspects]


def _progress(ready: Assembled, point: Point) -> Progress:
    trained = choose(ready.model, ready.phases[point.phase_index].train)
    return Progress(
        unit=point.unit,
        images=point.images,
        phase=point.phase,
        metrics=_validated(ready, point.phase_index) if point.evaluated else {},
        train_s=point.train_s,
        losses=point.losses,
        learning_rates=point.learning_rates,
        params_trained=sum(item.parameter.numel() for item in trained),
        state=point.state,
    )


def _validated(ready: Assembled, phase: int) -> dict[str, float]:
    inputs = ready.inputs(phase)
    choose_shares(ready.model, inputs, ready.bench)
    return metrics_of(score(ready.bench, ready.model, inputs, "val"), ready.bench) | _routing(ready, inputs)


def _routing(ready: Assembled, inputs: Inputs) -> dict[str, float]:
    """How often the model tells the aspect of a validation picture, where it does."""
    bench, rows = ready.bench, ready.bench.rows("val")
    accuracy = aspect_accuracy(ready.model, inputs, rows, aspects=bench.aspect_indices, device=bench.device)
    return {} if accuracy is None else {ASPECT_ACCURACY: accuracy}


def _untrained(ready: Assembled) -> Progress:
    scores = score(ready.bench, ready.model, ready.bench.feature_inputs, "val")
    state = TrainingState(ready.model)
    return Progress(
        unit=0,
        images=0,
        phase="",
        metrics=metrics_of(scores, ready.bench),
        train_s=0.0,
        losses={},
        learning_rates={},
        params_trained=0,
        state=state,
    )
