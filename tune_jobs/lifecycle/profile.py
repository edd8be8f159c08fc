"""A few steps of an experiment, to tell what all of it would take."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from handclip_core.devices import peak_memory, reset_peak_memory, select_device
from handclip_core.engine.loop import Budget, train
from handclip_core.engine.plan import plan
from handclip_core.runs.experiment import Assembled, Experiment, assemble, context_of, validate
from handclip_core.runs.precision import precision_of
from search_spaces.arms import arm_of

STEPS = 3
"""Steps of each phase that are timed, after one that is not."""


@dataclass(frozen=True)
class Profile:
    """What one trial would take."""

    strategy: str
    setup_s: float
    train_s: float
    """Training on the whole budget."""
    validate_s: float
    """Validating every unit."""
    memory_bytes: int
    """Most that was held: of the GPU if there is one, else of the process."""
    state_bytes: int
    """A saved state on the disk."""
    reason: str = ""
    """Why it could not be tried."""
    backbone: str = ""
    """What the sweep calls its backbone; empty if there is only one."""

    @property
    def arm(self) -> str:
        """Strategy and backbone."""
        return arm_of(self.strategy, self.backbone)

    @property
    def seconds(self) -> float:
        """A trial that uses its whole budget."""
        return self.setup_s + self.train_s + self.validate_s


def profile(experiment: Experiment, device_name: str) -> Profile:
    """Train and validate a little of ``experiment`` here; what goes wrong is its ``reason``."""
    try:
        return _profile(experiment, select_device(device_name))
    except Exception as error:
        return unprofiled(experiment, error)


def unprofiled(experiment: Experiment, error: Exception) -> Profile:
    """The profile of an experiment that could not be tried."""
    lines = str(error).splitlines() or [""]
    reason = f"{type(error).__name__}: {lines[0]}"
    return Profile(experiment.strategy.name, math.nan, math.nan, math.nan, 0, 0, reason=reason)


def _profile(experiment: Experiment, device: torch.device) -> Profile:
    reset_peak_memory(device)
    context = context_of(experiment, device)
    ready, setup_s = _timed(lambda: assemble(experiment, context), device)
    spans = plan(ready.phases, budget=ready.budget.units, epoch_images=ready.budget.epoch_images)
    train_s, training = 0.0, 0
    for index, span in enumerate(spans):
        # The first step also allocates and fills caches.
        _train(ready, experiment, index, steps=1)
        held, took_s = _timed(partial(_train, ready, experiment, index, steps=STEPS), device)
        train_s += took_s / STEPS * span.num_steps
        training = max(training, held)
    last = len(ready.phases) - 1
    _, validate_s = _timed(lambda: validate(ready, last), device)
    return Profile(
        strategy=experiment.strategy.name,
        setup_s=setup_s,
        train_s=train_s,
        validate_s=validate_s * _evaluations(ready),
        memory_bytes=peak_memory(device),
        # The weights are saved twice: the last and the best.
        state_bytes=2 * _bytes(ready.model.state_dict()) + training,
    )


def _train(ready: Assembled, experiment: Experiment, index: int, *, steps: int) -> int:
    """Train phase ``index`` alone for some steps; returns the bytes of what is saved beside the weights."""
    phase, loader, held = replace(ready.phases[index], evaluation_point=False), ready.loader(index), 0
    budget = Budget(1, steps * phase.data.sampler.batch_size)
    points = train(
        ready.model,
        (phase,),
        loader=lambda _: loader,
        budget=budget,
        seed=0,
        micro_batch=experiment.micro_batch,
        precision=precision_of(experiment.precision, ready.context),
    )
    for point in points:
        held = _bytes(point.state.training())
    return held


def _evaluations(ready: Assembled) -> int:
    """Validations: units of phases that report, and evaluation points; one for a model that is not trained."""
    shares = [phase.share for phase in ready.phases]
    told = [phase.share for phase in ready.phases if phase.evaluate]
    evaluation_points = sum(phase.evaluation_point for phase in ready.phases)
    units = round(ready.budget.units * sum(told) / sum(shares)) if shares else 1
    return units + (evaluation_points + 1 if evaluation_points else 0)


def _timed(action: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    value = action()
    wait()
    return value, time.perf_counter() - started


def _bytes(values: Any) -> int:
    """Bytes of all tensors in ``values``."""
    if isinstance(values, torch.Tensor):
        return values.nbytes
    if isinstance(values, dict):
        return sum(map(_bytes, values.values()))
    return sum(map(_bytes, values)) if isinstance(values, list | tuple) else 0
