"""A trial in a worker process that stays warm: Ray Tune drives the core's generator one budget unit at a time."""

import gc
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow.fs import FileType  # type: ignore[import-untyped]
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT

from handclip_core.devices import select_device
from handclip_core.engine.state import Resume
from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment, Progress, run
from handclip_core.runs.run_folder import RunFolder
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.workers import Companions
from tune_jobs.state.trials import TrialRecord
from tune_jobs.storage.location import Place, fetched, is_folder, named_place
from tune_jobs.storage.retry import patiently


class LostStateError(Exception):
    """The saved state of a trial is missing or damaged, so it must start over."""


def trial_config(record: TrialRecord, sweep: Place, *, room: Room, checkpoint_every_s: float) -> dict[str, Any]:
    """What a worker is told about a trial of the sweep at ``sweep``: plain data."""
    experiment = record.experiment.model_copy(update={"seed": record.experiment.seed + record.replica})
    return {
        "number": record.number,
        "folder": record.name,
        "attempt": record.attempts,
        "replica": record.replica,
        "experiment": experiment.model_dump(mode="json"),
        "device": room.device,
        "threads": room.cpus,
        "gpus": room.gpus,
        "workers": room.workers,
        "checkpoint_every_s": checkpoint_every_s,
        "checkpoint": None if record.checkpoint is None else str(sweep / record.checkpoint),
    }


def number_of(trial: Trial) -> int:
    """Our number of one of Tune's trials. Each attempt at a trial is one of Tune's."""
    number: int = trial.config["number"]
    return number


def folder_of(trial: Trial) -> str:
    """Name of the folder of one of Tune's trials."""
    name: str = trial.config["folder"]
    return name


def strategy_of(config: dict[str, Any]) -> str:
    """Name of the strategy of a trial's config."""
    name: str = config["experiment"]["strategy"]["name"]
    return name


class HandTrial(Trainable):  # type: ignore[misc]
    """One experiment. Its results are the rows of its training log, and what the driver needs to judge them."""

    _given: dict[str, Any]
    _run: RunFolder
    _progress: Iterator[Progress] | None = None
    _folder: Path | None = None
    _last: Progress | None = None
    _companions: Companions | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Take ``config``, which ``trial_config`` made. What may fail of ours is left to the first step.

        Of what fails here Ray would hand over the text alone.
        """
        self._given = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make this process ready for the next trial; nothing of the last one stays but imports and caches."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train and validate one budget unit; the first one begins the trial, or goes on from its checkpoint.

        A unit in which nothing can move retrieval is not JUDGED and has no scores. Raises LostStateError where the
        checkpoint is gone or damaged, UnwritableError where this machine cannot write, or the storage stays away.
        """
        if self._progress is None:
            self._progress = self._begin()
        started = time.perf_counter()
        progress = self._next(self._progress)
        if progress is None:
            return {DONE: True, RESULT_DUPLICATE: True}
        self._last = progress
        patiently(partial(self._run.record, progress), path=self._run.folder)
        took_s = time.perf_counter() - started
        row = self._run.log[-1]
        report = {
            "unit": progress.unit,
            "images": progress.images,
            "evaluated": progress.judged,
            "metrics": progress.metrics,
            "training": {name: float(value) for name, value in row.items() if name.startswith(("loss/", "lr/"))},
            "params_trained": progress.params_trained,
            "seconds": took_s,
            SHOULD_CHECKPOINT: self._saving_is_due(took_s),
        }
        if not progress.judged:
            return report
        best = {
            name: float(value) for name, value in self._run.best.items() if name in progress.metrics or name == "unit"
        }
        return {**report, "best": best, DONE: progress.unit in (0, self._experiment.budget)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what going on from it and the sweep's collection of the best trial need."""
        if self._last is not None:
            self._run.save_checkpoint(Path(checkpoint_dir), self._last)
        else:
            # What was left of the budget held nothing to validate: the state is still the one it began with.
            assert self._origin is not None, "Tune saves after a step"
            with fetched(self._origin) as state:
                shutil.copytree(state, checkpoint_dir, dirs_exist_ok=True)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Put the state into the sweep's storage, and again while that is away, or this machine's disk is full."""
        del checkpoint_dir
        return patiently(self._save, path=Path(self._storage.trial_fs_path))

    def cleanup(self) -> None:
        """End the experiment and free what it held."""
        self._progress, self._last = None, None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _save(self) -> Any:
        last = self._storage.current_checkpoint_index
        try:
            with tempfile.TemporaryDirectory(prefix="handclip-") as folder:
                return super().save(folder)
        except (OSError, RuntimeError) as error:
            store = self._storage.storage_filesystem
            kind = store.get_file_info(self._storage.experiment_fs_path).type
            if kind is not FileType.Directory:
                raise OSError(f"{self._storage.experiment_fs_path}: is away") from error
            # Half a copy is no state. Each one has a number of its own; the last one is that of a whole state.
            if self._storage.current_checkpoint_index != last:
                with suppress(OSError):
                    store.delete_dir(self._storage.checkpoint_fs_path)
            raise

    def _begin(self) -> Iterator[Progress]:
        config = self._given
        torch.set_num_threads(config["threads"])
        self._experiment = Experiment.model_validate(config["experiment"])
        seed_everything(self._experiment.seed)
        self._device = select_device(config["device"])
        self._checkpoint_every_s = config["checkpoint_every_s"]
        # Tune may start a second process for a trial that a reused one has taken meanwhile; each has its own folder.
        above = Path(self.logdir)
        self._folder = Path(patiently(partial(tempfile.mkdtemp, prefix="run-", dir=above), path=above))
        self._origin = None if config["checkpoint"] is None else named_place(config["checkpoint"])
        self._unsaved_s = 0.0
        opened = partial(self._opened, self._folder)
        self._run, resume = patiently(opened, path=self._origin or self._folder, verb="read or written")
        if config["workers"] > 1:
            self._meet(config)
        return run(self._experiment, device=self._device, resume=resume)

    def _opened(self, folder: Path) -> tuple[RunFolder, Resume | None]:
        if self._origin is None:
            return RunFolder.create(folder, self._experiment), None
        return _restored(self._origin, folder, self._experiment)

    def _meet(self, config: dict[str, Any]) -> None:
        """Join with the companions, which are started by the first trial of this process."""
        if self._companions is None:
            self._companions = Companions(
                num_companions=config["workers"] - 1, cpus=config["threads"], gpus=config["gpus"]
            )
        self._companions.begin(config, self._device)

    def _next(self, points: Iterator[Progress]) -> Progress | None:
        """The next budget unit, of this process and of its companions."""
        if self._companions is None:
            return next(points, None)
        with self._companions.step():
            return next(points, None)

    def _saving_is_due(self, took_s: float) -> bool:
        self._unsaved_s += took_s
        if self._unsaved_s < self._checkpoint_every_s:
            return False
        self._unsaved_s = 0.0
        return True


def _restored(checkpoint: Place, folder: Path, experiment: Experiment) -> tuple[RunFolder, Resume]:
    """The run of a saved state, in ``folder``; raises LostStateError where the sweep is there and the state is not.

    Raises OSError where that may pass: the storage is away or does not answer, this machine's disk is full.
    """
    try:
        with fetched(checkpoint) as state:
            return RunFolder.restore(folder, experiment, state)
    except (InputError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        passing = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if passing or not is_folder(checkpoint.parent.parent):
            raise OSError(str(error)) from error
        raise LostStateError(str(error)) from None


def seed_everything(seed: int) -> None:
    """Seed every generator of this process, so that a trial does not depend on what ran here before it."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)
