"""The one training loop. It yields at whole budget units; stopping is closing the generator."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from handclip_core.devices import seed_generator
from handclip_core.engine.average import WeightAverage, averaged
from handclip_core.engine.gradients import backward
from handclip_core.engine.objective import refuse_divergence
from handclip_core.engine.optim import build_optimizer, choose, freeze_all_but, set_rate
from handclip_core.engine.phase import Phase
from handclip_core.engine.plan import Span, plan, units_reached
from handclip_core.engine.precision import Precision
from handclip_core.engine.state import Memory, Position, Resume, Saved, TrainingState, memories_of, restore
from handclip_core.errors import InputError
from handclip_core.models.hand_model import HandModel
from handclip_core.process_group import process_group
from handclip_core.types import Batch

ACCURACY = "accuracy"
"""Stands among the sums of a unit beside the losses."""


class BatchLoader(Protocol):
    """Batches of one phase, by step."""

    def batch(self, step: int) -> Batch:
        """The batch of step ``step``, the same whenever it is asked for."""
        ...


@dataclass(frozen=True)
class Budget:
    """``units`` reports, each after ``epoch_images`` images."""

    units: int
    epoch_images: int


@dataclass(frozen=True)
class StepReport:
    """The run at a whole budget unit, an evaluation point or the end of a phase.

    ``state`` is live: use it before taking the next item.

    ``losses``, and ``accuracy`` on the training batches where there is one, are means over the phase's steps since the
    last whole unit, ``train_s`` the seconds of all steps since, and ``cpu_s`` what this process, with all its threads,
    spent on them of processors' time. If not ``evaluated``, nothing
    can have moved retrieval: the state is there to be saved. At an evaluation point, the score of every aspect is to be
    added to ``state.evaluation_points``. At the end of a phase the model is what the next phase begins with.
    """

    unit: int
    images: int
    phase: str
    phase_index: int
    train_s: float
    cpu_s: float
    losses: dict[str, float]
    accuracy: float | None
    learning_rates: dict[str, float]
    state: TrainingState
    evaluated: bool
    evaluation_point: bool = False
    phase_end: bool = False


@dataclass(frozen=True)
class Step:
    """An optimiser step that has been taken, of ``num_steps`` of its phase.

    ``images`` were shown since the run began, of ``unit_images`` a budget unit; ``loss`` is a scalar on the device, of
    this step alone.
    """

    phase: str
    number: int
    num_steps: int
    images: int
    unit_images: int
    loss: Tensor
    learning_rates: dict[str, float]


Watch = Callable[[Step], None]
"""Sees every step, and must not change anything."""


def train(
    model: HandModel,
    phases: tuple[Phase, ...],
    *,
    loader: Callable[[int], BatchLoader],
    budget: Budget,
    seed: int,
    micro_batch: int | None = None,
    precision: Precision = Precision.FLOAT32,
    phase_ends: bool = False,
    watch: Watch | None = None,
    resume: Resume | None = None,
) -> Iterator[StepReport]:
    """Run ``phases`` on ``model`` and yield a StepReport at every whole budget unit, and at evaluation points; with
    ``phase_ends`` also when a phase has ended that another follows.

    ``loader(i)`` gives the batches of phase i; the image tower trains on ``micro_batch`` images of a batch at a time.
    Towers compute in ``precision``, float32 or bfloat16; a run that is resumed in the one that it began in.
    Every random number of a step is a function of (seed, phase, step), so a run that is resumed at any point continues
    bit for bit. Raises DivergedError if the loss is not finite, and InputError if a phase trains nothing, or one
    of its losses reads nothing that it trains.
    """
    memories = memories_of(phases, next(model.parameters()).device)
    spans = plan(phases, budget=budget.units, epoch_images=budget.epoch_images)
    if resume:
        precision = resume.precision
    common = _Common(model, phases, memories, budget, seed, micro_batch, precision, watch)
    if resume:
        restore(resume, model, memories)
        common.position, common.evaluation_points = resume.position, list(resume.training["milestones"])
    first = common.position.phase
    for index in range(first, len(phases)):
        saved = resume.training if resume and index == first else None
        run = _PhaseRun(common, index, spans[index], loader(index), saved)
        yield from run.steps()
        if index + 1 < len(phases):
            if phase_ends:
                yield run.step_report(phase_end=True)
            run.consolidate()
            common.position.phase, common.position.step = index + 1, 0


@dataclass
class _Common:
    """What all phases of a run share; all below ``micro_batch`` moves along.

    ``train_s`` and ``cpu_s`` count the seconds of training since the last whole unit, by the clock and of processors.
    """

    model: HandModel
    phases: tuple[Phase, ...]
    memories: tuple[Memory, ...]
    budget: Budget
    seed: int
    micro_batch: int | None
    precision: Precision
    watch: Watch | None
    position: Position = field(default_factory=Position)
    evaluation_points: list[list[float]] = field(default_factory=list)
    train_s: float = 0.0
    cpu_s: float = 0.0


class _PhaseRun:
    """One phase under way."""

    def __init__(self, common: _Common, index: int, span: Span, loader: BatchLoader, saved: Saved | None) -> None:
        self.common, self.index, self.span, self.loader = common, index, span, loader
        self.model, self.position, self.phase = common.model, common.position, common.phases[index]
        chosen = choose(self.model, self.phase.train)
        if not chosen:
            raise InputError(f"strategy: phase '{self.phase.name}' has nothing to train; choose another neck or loss")
        freeze_all_but(self.model, chosen)
        self.parameters = [item.parameter for item in chosen]
        self.device = self.parameters[0].device
        self.is_new = True
        self.optimizer = build_optimizer(chosen, self.phase.optim)
        ema = self.phase.optim.ema
        self.average = WeightAverage(averaged(self.model, chosen), ema) if ema else None
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
        if saved and self.average:
            self.average.load_raw(saved["raw"])
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0

    def steps(self) -> Iterator[StepReport]:
        """Train the rest of the phase, yielding at whole units and at evaluation points."""
        yield from self.evaluation_points_until(self.index)
        yield from self.report()  # a step may reach several units, and a run be resumed at the first of them
        while self.position.step < self.span.num_steps:
            self.step()
            yield from self.arrive()
            yield from self.report()
        yield from self.arrive()

    def step(self) -> None:
        """One optimiser step."""
        started, cpu_started = time.perf_counter(), time.process_time()
        step, optim = self.position.step, self.phase.optim
        seed = step_seed(self.common.seed, self.index, step)
        seed_generator(seed, self.device)
        if self.is_new or not self.model.training:  # modes are set by a walk over all modules, and depend on the phase
            self.model.train()
            self.is_new = False
        batch = self.loader.batch(step)
        self.optimizer.zero_grad(set_to_none=True)
        found = backward(
            self.model,
            batch,
            self.phase,
            micro_batch=self.common.micro_batch,
            group=process_group(),
            seed=seed,
            precision=self.common.precision,
        )
        refuse_divergence(found, phase=self.phase.name, step=step)
        set_rate(self.optimizer, optim, step=step, num_steps=self.span.num_steps)
        if optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, optim.clip_norm)
        self.optimizer.step()
        self.position.step += 1
        self.position.images += len(batch.labels)
        if self.average:
            self.average.update(self.position.step)
        self._sum(found.parts if found.accuracy is None else {**found.parts, ACCURACY: found.accuracy})
        self.common.train_s += time.perf_counter() - started
        self.common.cpu_s += time.process_time() - cpu_started
        if self.common.watch:
            rates = {f"{group['name']}": group["lr"] for group in self.optimizer.param_groups}
            self.common.watch(
                Step(
                    phase=self.phase.name,
                    number=step + 1,
                    num_steps=self.span.num_steps,
                    images=self.position.images,
                    unit_images=self.common.budget.epoch_images,
                    loss=found.total.detach(),
                    learning_rates=rates,
                )
            )

    def arrive(self) -> Iterator[StepReport]:
        """At the end of the phase, make the average weights the model's, and yield the evaluation point if there is
        one.
        """
        if self.position.step < self.span.num_steps:
            return
        if self.average:
            self.average.settle()
        yield from self.evaluation_points_until(self.index + 1)

    def evaluation_points_until(self, index: int) -> Iterator[StepReport]:
        """Yield if the evaluation points of the phases before ``index`` have not all been measured."""
        wanted = sum(phase.evaluation_point for phase in self.common.phases[:index])
        if self.phase.evaluation_point and len(self.common.evaluation_points) < wanted + 1:
            yield self.step_report(evaluation_point=True)
            assert len(self.common.evaluation_points) == wanted + 1, "the caller adds the scores of an evaluation point"

    def report(self) -> Iterator[StepReport]:
        """Yield for every whole unit that the last step has reached, with the average weights in the model."""
        units, epoch_images = self.common.budget.units, self.common.budget.epoch_images
        reached = units_reached(self.position.images, budget=units, epoch_images=epoch_images)
        at_the_end = self.index + 1 == len(self.common.phases) and self.position.step == self.span.num_steps
        if not at_the_end:
            reached = min(reached, units - 1)  # the last unit belongs to the last step, however few the images are
        while self.position.unit < reached:
            self.position.unit += 1
            with self.average.applied() if self.average else nullcontext():
                yield self.step_report()
            self.sums, self.num_summed, self.common.train_s, self.common.cpu_s = {}, 0, 0.0, 0.0

    def step_report(self, *, evaluation_point: bool = False, phase_end: bool = False) -> StepReport:
        """The run as it stands."""
        means = {name: value.item() / self.num_summed for name, value in self.sums.items()}
        accuracy = means.pop(ACCURACY, None)
        return StepReport(
            unit=self.position.unit,
            images=self.position.images,
            phase=self.phase.name,
            phase_index=self.index,
            train_s=self.common.train_s,
            cpu_s=self.common.cpu_s,
            losses=means,
            accuracy=accuracy,
            learning_rates={f"{group['name']}": group["lr"] for group in self.optimizer.param_groups},
            state=TrainingState(
                self.model,
                self.optimizer,
                self.common.memories,
                self.position,
                self.average,
                self.common.evaluation_points,
                self.common.precision,
            ),
            evaluated=self.phase.evaluate,
            evaluation_point=evaluation_point,
            phase_end=phase_end,
        )

    def consolidate(self) -> None:
        """Let the phase's penalties learn from what has just been trained."""
        seed_generator(step_seed(self.common.seed, self.index, self.span.num_steps), self.device)
        for penalty in self.phase.penalties:
            penalty.consolidate(self.model, (self.loader.batch(step) for step in count()))

    def _sum(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.num_summed += 1


def step_seed(seed: int, phase: int, step: int) -> int:
    """The seed of everything random in a step."""
    return int(np.random.SeedSequence([seed, phase, step]).generate_state(1, np.uint64)[0] >> 1)
