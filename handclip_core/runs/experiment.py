"""An experiment: strategy, data, backbone, seed and budget; and the one function that runs it."""

from collections.abc import Generator
from dataclasses import dataclass, field
from math import nan
from typing import Self

import torch
from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.data.inputs import Inputs
from handclip_core.data.sources import DataSettings, DrawnData
from handclip_core.data.training import Part
from handclip_core.devices import MIB, peak_memory, reset_peak_memory
from handclip_core.engine.loader import PhaseLoader
from handclip_core.engine.loop import Budget, StepReport, Watch, step_seed, train
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Phase, evaluation_points_of
from handclip_core.engine.precision import Precision
from handclip_core.engine.state import Resume, Saved, TrainingState
from handclip_core.evaluation.units import Evaluation
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.closed_forms import fit_closed_forms
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.precision import precision_of
from handclip_core.strategies import AnyStrategy, refuse_other_tasks
from handclip_core.tasks import IDENTITIES, AnyTask
from handclip_core.tasks.base import Split, Task


class Experiment(Config):
    """Everything that fixes a training run; its JSON alone runs it again."""

    strategy: AnyStrategy
    """How CLIP is fine-tuned."""
    task: AnyTask = IDENTITIES
    """What is learned, and how it is judged."""
    data: DataSettings = DrawnData()
    """Which images."""
    backbone: BackboneSettings = BackboneSettings()
    """Which CLIP."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Fixes the order of the images, the random weights and the augmentation."""
    budget: int = Field(10, ge=1, le=100_000)
    """Budget units: images shown, in epochs of the training split. The run reports once a unit."""
    micro_batch: int | None = Field(None, ge=1, le=65536)
    """Most images that the image tower trains on at a time; none for whole batches. Saves memory, changes no sum."""
    precision: Precision = Precision.AUTO
    """What the towers compute in while they train. ``auto`` is bfloat16 on a GPU that has it; on a CPU that has it too
    if it was at least 1.15 times as fast there, tried once a machine; else float32. What is measured is float32."""
    keep_every: int | None = Field(None, ge=1)
    """Units after which weights are kept for good, as ``handclip_epoch_N.pth``; none for the best and last alone."""
    keep_stages: bool = False
    """Keeps the weights with which each phase but the last ends, as ``handclip_stage_NAME.pth``: of CLIP-ReID the
    learned prompts on CLIP as it was, of a sequence the model after each aspect."""
    eval_every: int = Field(1, ge=1)
    """Units from one validation to the next; the last unit is always validated."""
    patience: int | None = Field(None, ge=1)
    """Validations without a new best after which the run ends; none to go on to the end of the budget."""
    part: Part = "train"
    """``train_all`` adds the validation identities, for a final fit. Nobody is left to validate on: such a run has no
    scores, and its weights are those of its last unit."""

    @model_validator(mode="after")
    def _strategy_serves_the_task(self) -> Self:
        refuse_other_tasks(type(self.strategy), self.task)
        return self

    @model_validator(mode="after")
    def _backbone_can_read(self) -> Self:
        refuse_images_only(self.backbone, self.task, reads_text=self.strategy.reads_text)
        return self

    @model_validator(mode="after")
    def _patience_has_scores(self) -> Self:
        if self.patience is not None and self.part == "train_all":
            raise ValueError("patience: a run on train_all has no scores to wait for; leave it out, choose a budget")
        return self

    @model_validator(mode="after")
    def _parts_are_the_whole(self) -> Self:
        if self.micro_batch is not None and self.backbone.batch_norm == "moving":
            raise ValueError(
                "micro_batch: statistics that move with the batches are not those of a batch in parts; set "
                "backbone.batch_norm: fixed"
            )
        return self


def refuse_images_only(backbone: BackboneSettings, task: Task, *, reads_text: bool = False) -> None:
    """Raise ValueError if ``task`` or a strategy reads texts, and ``backbone`` is an image tower alone."""
    if backbone.images_only and (task.reads_text or reads_text):
        who = f"the task {task.name}" if task.reads_text else "the strategy"
        raise ValueError(
            f"backbone.name: {backbone.name} is an image tower alone, but {who} reads texts; choose a CLIP"
        )


@dataclass(frozen=True)
class Assembled:
    """An experiment's model and phases, ready to train."""

    experiment: Experiment
    context: ExperimentContext
    model: HandModel
    phases: tuple[Phase, ...]
    budget: Budget

    @property
    def params_trained(self) -> int:
        """Weights that any phase trains."""
        chosen = [item for phase in self.phases for item in choose(self.model, phase.train)]
        return sum({item.name: item.parameter.numel() for item in chosen}.values())

    def inputs(self, phase: int) -> Inputs:
        """Inputs of the evaluation of phase ``phase``: what the blocks that are as pretrained have made of images."""
        return self.context.inputs_after(self.untouched_blocks(phase), self.model.readout)

    def loader(self, phase: int) -> PhaseLoader:
        """The batches of phase ``phase``."""
        inputs = self.context.inputs_after(self.cached_blocks(phase), self.model.readout)
        return PhaseLoader(
            self.phases[phase].data, inputs, seed=step_seed(self.experiment.seed, phase, 0), device=self.context.device
        )

    def cached_blocks(self, phase: int) -> int:
        """Leading blocks of the backbone whose work phase ``phase`` reads from a file; augmented images need them."""
        return 0 if self.phases[phase].data.augment.active else self.untouched_blocks(phase)

    def towers_compute(self, phase: int) -> bool:
        """Whether a tower reads images or texts in phase ``phase``, rather than a head what a frozen one has made."""
        return self.cached_blocks(phase) < len(self.context.pretrained.blocks()) or self.model.has_text_tower

    def untouched_blocks(self, phase: int) -> int:
        """Leading blocks of the backbone that no phase up to this one trains, and to which nothing was added."""
        trained = {item.name for spec in self.phases[: phase + 1] for item in choose(self.model, spec.train)}
        return self.model.untouched_blocks(self.context.pretrained, trained)


@dataclass(frozen=True)
class Progress:
    """A run at a whole budget unit. ``state`` is live: use it before taking the next item.

    ``metrics`` are those of the task on the validation split, by name; nothing if the phase cannot have moved them.
    ``train_s`` is seconds of training since the last item, validation not counted, and ``cpu_s`` those of this process
    on all its processors together, which neighbours on the machine do not lengthen; ``peak_mib`` is the most memory
    that was used since the run began or was resumed, see ``peak_memory``; ``accuracy`` that of the identity head on
    the training batches; ``params_trained`` how many weights the phase trains.
    """

    unit: int
    images: int
    phase: str
    metrics: dict[str, float]
    train_s: float
    cpu_s: float
    peak_mib: float
    losses: dict[str, float]
    accuracy: float | None
    learning_rates: dict[str, float]
    params_trained: int
    state: TrainingState
    stages: dict[str, Saved] = field(default_factory=dict)
    """Copies of the weights with which phases ended since the last item, by phase, if the experiment keeps them."""

    @property
    def evaluated(self) -> bool:
        """Whether the run was validated at this unit."""
        return bool(self.metrics)


def context_of(experiment: Experiment, device: torch.device) -> ExperimentContext:
    """Data and backbone of ``experiment``; see ``open_context``."""
    return open_context(experiment.data, experiment.backbone, device, experiment.task)


def built(experiment: Experiment, context: ExperimentContext) -> HandModel:
    """The model as it is before training; no loss is made, so that none of the user's own is imported.

    Raises InputError if the strategy does not fit the data.
    """
    data, strategy = context.training_data(experiment.part), experiment.strategy
    torch.manual_seed(experiment.seed)
    return strategy.build(context.backbone(text=strategy.reads_text), data).to(context.device)


def assemble(experiment: Experiment, context: ExperimentContext) -> Assembled:
    """Build model and phases; raises InputError if the strategy does not fit the data."""
    model, data = built(experiment, context), context.training_data(experiment.part)
    phases = experiment.strategy.phases(model, data)
    return Assembled(experiment, context, model, phases, Budget(experiment.budget, data.num_images))


def run(
    experiment: Experiment, *, device: torch.device, resume: Resume | None = None, watch: Watch | None = None
) -> Generator[Progress, None, None]:
    """Train and yield a Progress at every whole budget unit; without phases, yield once, at unit 0.

    Closing the generator stops the run. With ``resume`` it goes on from a saved state, bit for bit on the CPU. Raises
    InputError for unusable settings and DivergedError for a loss that is not finite.
    """
    reset_peak_memory(device)
    ready = assemble(experiment, context_of(experiment, device))
    if not ready.phases:
        if resume is None:
            yield _untrained(ready)
        return
    computes = resume is None and any(map(ready.towers_compute, range(len(ready.phases))))
    reports = train(
        ready.model,
        ready.phases,
        loader=ready.loader,
        budget=ready.budget,
        seed=experiment.seed,
        micro_batch=experiment.micro_batch,
        precision=precision_of(experiment.precision, ready.context) if computes else Precision.FLOAT32,
        phase_ends=experiment.keep_stages,
        watch=watch,
        resume=resume,
    )
    stages: dict[str, Saved] = {}
    for report in reports:
        if report.evaluation_point:
            report.state.evaluation_points.append(_evaluation_point(ready, report.phase_index))
        elif report.phase_end:
            stages[report.phase] = {name: value.cpu().clone() for name, value in ready.model.state_dict().items()}
        else:
            yield _progress(ready, report, stages)
            stages = {}


def score(context: ExperimentContext, model: HandModel, inputs: Inputs, split: Split) -> Evaluation:
    """How good ``model`` is on ``split``."""
    return context.evaluator(split).evaluate(model, inputs)


def _evaluation_point(ready: Assembled, phase: int) -> list[float]:
    """The objective on each aspect that is trained; NaN if it was not evaluated, or validation was trained on."""
    aspects = evaluation_points_of(ready.phases)
    if ready.experiment.part == "train_all":
        return [nan] * len(aspects)
    scores = score(ready.context, ready.model, ready.inputs(phase), "val")
    return [scores.objective_of(name) for name in aspects]


def _progress(ready: Assembled, report: StepReport, stages: dict[str, Saved]) -> Progress:
    trained = choose(ready.model, ready.phases[report.phase_index].train)
    return Progress(
        unit=report.unit,
        images=report.images,
        phase=report.phase,
        metrics=validate(ready, report.phase_index) if report.evaluated and _is_due(ready, report.unit) else {},
        train_s=report.train_s,
        cpu_s=report.cpu_s,
        peak_mib=_peak_mib(ready),
        losses=report.losses,
        accuracy=report.accuracy,
        learning_rates=report.learning_rates,
        params_trained=sum(item.parameter.numel() for item in trained),
        state=report.state,
        stages=stages,
    )


def _is_due(ready: Assembled, unit: int) -> bool:
    """Whether ``unit`` is validated."""
    return unit == ready.budget.units or unit % ready.experiment.eval_every == 0


def _peak_mib(ready: Assembled) -> float:
    return peak_memory(ready.context.device) / MIB


def validate(ready: Assembled, phase: int) -> dict[str, float]:
    """Fit what has a closed form, and score the model as it is in phase ``phase``; -1 for before any.

    No scores are given of people who were trained on.
    """
    inputs, part = ready.inputs(phase), ready.experiment.part
    fit_closed_forms(ready.model, ready.experiment.strategy, inputs, ready.context, part)
    if part == "train_all":
        return {}
    return ready.context.evaluator("val").validate(ready.model, inputs)


def _untrained(ready: Assembled) -> Progress:
    return Progress(
        unit=0,
        images=0,
        phase="",
        metrics=validate(ready, -1),
        train_s=0.0,
        cpu_s=0.0,
        peak_mib=_peak_mib(ready),
        losses={},
        accuracy=None,
        learning_rates={},
        params_trained=0,
        state=TrainingState(ready.model),
    )
