"""The one training loop. It yields at whole budget units; stopping is closing the generator."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from handclip_core.engine.objective import objective, refuse_divergence
from handclip_core.engine.optim import build_optimizer, choose, freeze_all_but, set_rate
from handclip_core.engine.phase import Penalty, Phase
from handclip_core.engine.plan import Span, plan, units_reached
from handclip_core.engine.precision import autocast
from handclip_core.engine.state import Position, Resume, TrainingState, penalties_of, restore
from handclip_core.models.hand_model import HandModel
from handclip_core.types import Batch


class Feed(Protocol):
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
class Point:
    """The run at a whole budget unit. ``state`` is live: use it before taking the next item of the generator."""

    unit: int
    images: int
    phase: str
    phase_index: int
    train_s: float
    losses: dict[str, float]
    learning_rates: dict[str, float]
    state: TrainingState


def train(
    model: HandModel,
    phases: tuple[Phase, ...],
    *,
    feed: Callable[[int], Feed],
    budget: Budget,
    seed: int,
    resume: Resume | None = None,
) -> Iterator[Point]:
    """Run ``phases`` on ``model`` and yield a Point at every whole budget unit of phases that evaluate.

    ``feed(i)`` gives the batches of phase i. Every random number of a step is a function of (seed, phase, step), so a
    run that is resumed at any point continues bit for bit. Raises DivergedError where the loss is not finite.
    """
    position = resume.position if resume else Position()
    penalties = penalties_of(phases)
    if resume:
        restore(resume, model, penalties)
    spans = plan(phases, budget=budget.units, epoch_images=budget.epoch_images)
    first = position.phase
    for index in range(first, len(phases)):
        saved_optimizer = resume.training["optimizer"] if resume and index == first else None
        run = _PhaseRun(model, phases[index], spans[index], index, feed(index), seed, penalties, position)
        yield from run.steps(budget, saved_optimizer)
        if index + 1 < len(phases):
            run.consolidate()
            position.phase, position.step = index + 1, 0


@dataclass
class _PhaseRun:
    """One phase under way; ``position`` is the whole run's and is moved along."""

    model: HandModel
    phase: Phase
    span: Span
    index: int
    feed: Feed
    seed: int
    penalties: tuple[Penalty, ...]
    position: Position
    sums: dict[str, Tensor] = field(default_factory=dict)
    num_summed: int = 0
    train_s: float = 0.0

    def __post_init__(self) -> None:
        chosen = choose(self.model, self.phase.train)
        freeze_all_but(self.model, chosen)
        self.optimizer = build_optimizer(chosen, self.phase.optim)
        self.parameters = [item.parameter for item in chosen]

    def steps(self, budget: Budget, saved_optimizer: dict[str, object] | None) -> Iterator[Point]:
        """Train the rest of the phase, yielding at whole units."""
        if saved_optimizer:
            self.optimizer.load_state_dict(saved_optimizer)
        while self.position.step < self.span.num_steps:
            self.step()
            reached = units_reached(self.position.images, budget=budget.units, epoch_images=budget.epoch_images)
            while self.position.unit < reached:
                self.position.unit += 1
                if self.phase.evaluate:
                    yield self.point()

    def step(self) -> None:
        """One optimiser step."""
        started = time.perf_counter()
        step = self.position.step
        torch.manual_seed(step_seed(self.seed, self.index, step))
        self.model.train()
        batch = self.feed.batch(step)
        with autocast(batch.labels.device):
            output = self.model(batch)
        found = objective(output, batch, terms=self.phase.terms, penalties=self.phase.penalties, model=self.model)
        refuse_divergence(found, phase=self.phase.name, step=step)
        set_rate(self.optimizer, self.phase.optim, step=step, num_steps=self.span.num_steps)
        self.optimizer.zero_grad(set_to_none=True)
        found.total.backward()
        if self.phase.optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.phase.optim.clip_norm)
        self.optimizer.step()
        self.position.step += 1
        self.position.images += len(batch.labels)
        self._sum(found.parts)
        self.train_s += time.perf_counter() - started

    def point(self) -> Point:
        """The run as it stands; losses are means since the last point."""
        losses = {name: value.item() / self.num_summed for name, value in self.sums.items() if self.num_summed}
        point = Point(
            unit=self.position.unit,
            images=self.position.images,
            phase=self.phase.name,
            phase_index=self.index,
            train_s=self.train_s,
            losses=losses,
            learning_rates={f"{group['name']}": group["lr"] for group in self.optimizer.param_groups},
            state=TrainingState(self.model, self.optimizer, self.penalties, self.position),
        )
        self.sums, self.num_summed, self.train_s = {}, 0, 0.0
        return point

    def consolidate(self) -> None:
        """Let the phase's penalties learn from what has just been trained."""
        torch.manual_seed(step_seed(self.seed, self.index, self.span.num_steps))
        for penalty in self.phase.penalties:
            penalty.consolidate(self.model, (self.feed.batch(step) for step in count()))

    def _sum(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.num_summed += 1


def step_seed(seed: int, phase: int, step: int) -> int:
    """The seed of everything random in a step."""
    return int(np.random.SeedSequence([seed, phase, step]).generate_state(1, np.uint64)[0] >> 1)
