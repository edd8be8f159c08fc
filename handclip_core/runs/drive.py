"""The one loop around ``run``: a run's folder, its seeds, its log, and a report a budget unit for whoever drives it."""

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from handclip_core.engine.loop import Watch
from handclip_core.engine.state import Resume
from handclip_core.models.hand_model import HandModel
from handclip_core.runs.experiment import Experiment, Progress, run
from handclip_core.runs.run_folder import RunFolder, is_training, measured, read_state

Write = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class Report:
    """A budget unit of a run, as plain data; ``dataclasses.asdict`` gives what goes to another process."""

    unit: int
    images: int
    """Images shown since the beginning of the run."""
    phase: str
    evaluated: bool
    """Whether the run was validated at this unit."""
    metrics: dict[str, float]
    """All validation metrics of this unit; empty if it was not evaluated."""
    training: dict[str, float]
    """``loss/NAME`` and ``train_accuracy``, means since the last unit, and ``lr/GROUP``, the group's highest rate."""
    best: dict[str, float]
    """The metrics of the best evaluated unit so far, and ``unit``, its number; empty if there is none."""
    seconds: float
    """Seconds of this unit, validation included."""
    params_trained: int
    """Weights that the unit's phase trains."""
    done: bool
    """Whether this is the last unit."""


class Drive:
    """A run under way: an iterator of its reports.

    ``record`` is its folder, with config, log and best weights.
    """

    def __init__(
        self, record: RunFolder, progress: Generator[Progress, None, None], resume: Resume | None, write: Write
    ) -> None:
        self.record = record
        self._progress, self._resume, self._write = progress, resume, write
        self._last: Progress | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Report:
        """Train and validate the next unit, and log it; none follows the last, nor one that ends the run's patience."""
        if self.record.out_of_patience:
            self._progress.close()
            raise StopIteration
        started = time.perf_counter()
        progress = next(self._progress)
        self._last, self._resume = progress, None
        self._write(lambda: self.record.add_unit(progress))
        return self._report(progress, seconds=time.perf_counter() - started)

    @property
    def model(self) -> HandModel:
        """The model as the last report left it."""
        assert self._last is not None, "there is a model once there is a report"
        model = self._last.state.model
        assert isinstance(model, HandModel)
        return model

    def save(self, into: Path) -> None:
        """Write a checkpoint of the present state into the folder ``into``; ``drive`` resumes from it.

        If nothing was trained since the run was resumed, that is the state it was resumed from.
        """
        if self._last is not None:
            self.record.save_checkpoint(into, self._last.state.model.state_dict(), self._last.state.training())
        else:
            assert self._resume is not None, "a new run is saved after its first report"
            self.record.save_checkpoint(into, self._resume.model, self._resume.training)

    def keep(self) -> None:
        """Replace the folder's own checkpoint by the present state."""
        self.record.keep_checkpoint(self.save)

    def close(self) -> None:
        """Stop the run and free what it holds."""
        self._progress.close()
        self._last = self._resume = None

    def _report(self, progress: Progress, *, seconds: float) -> Report:
        row = self.record.log[-1]
        best = self.record.best if self.record.evaluated else {}
        return Report(
            unit=progress.unit,
            images=progress.images,
            phase=progress.phase,
            evaluated=progress.evaluated,
            metrics=dict(progress.metrics),
            training={name: value for name, value in row.items() if is_training(name)},
            best={**measured(best), "unit": best["unit"]} if best else {},
            seconds=seconds,
            params_trained=progress.params_trained,
            done=progress.unit in (0, self.record.experiment.budget) or self.record.out_of_patience,
        )


def drive(
    experiment: Experiment,
    folder: Path,
    *,
    device: torch.device,
    resume: Path | None = None,
    write: Write = lambda action: action(),
    watch: Watch | None = None,
) -> Drive:
    """Begin ``experiment`` in ``folder``, or go on from the checkpoint in ``resume``, which is read at once.

    Every generator of this process is seeded. ``write`` performs the writing of a unit to the folder, which may be
    repeated if it raises OSError; ``watch`` sees every step. Raises InputError for a missing or damaged checkpoint, and
    as ``run`` does.
    """
    seed_everything(experiment.seed)
    if resume is None:
        record, state = RunFolder.create(folder, experiment), None
    else:
        record, state = RunFolder.reopen(folder, experiment, resume), read_state(resume)
    return Drive(record, run(experiment, device=device, resume=state, watch=watch), state, write)


def seed_everything(seed: int) -> None:
    """Seed every generator of this process, so that a run does not depend on what ran here before it."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)
