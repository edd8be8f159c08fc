"""A trial in a worker process that stays warm: Ray Tune drives the core's generator one budget unit at a time."""

import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from pyarrow.fs import FileType  # type: ignore[import-untyped]
from ray.experimental import internal_kv
from ray.tune import Trainable
from ray.tune.experiment import Trial
from ray.tune.result import DONE, RESULT_DUPLICATE, SHOULD_CHECKPOINT
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from handclip_core.devices import peak_own_memory, reset_peak_memory, select_device
from handclip_core.engine.loop import Step
from handclip_core.errors import InputError
from handclip_core.runs.drive import Drive, Report, drive
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.final_scores import write_final_scores
from handclip_core.scratch import scratch_folder
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.state.trial import TrialView
from tune_jobs.storage.location import StorageLocation, is_folder, local_copy, parse_location
from tune_jobs.storage.retry import with_retry

MEMORY = "memory"
"""The key of a report under which a worker says how much memory it has held."""
STATES_OF_AN_ATTEMPT = 100_000
"""Numbers of saved states that each attempt at a trial has for itself; no budget has more units."""


FIRST_TOLD_S = 5.0
"""Seconds of steps after which a worker tells for the first time how far it is; twice as many each further time."""
MEASURED = b"handclip-measured"
"""The part of the cluster's store of keys and values in which workers tell that."""


class LostStateError(Exception):
    """The saved state of a trial is missing or damaged, so it must start over."""


def trial_config(
    view: TrialView,
    sweep: StorageLocation,
    *,
    trial_resources: TrialResources,
    checkpoint_every_s: float,
    final_scores: bool = False,
    tells: bool = False,
) -> dict[str, Any]:
    """What a worker is told about a trial of the sweep at ``sweep``: plain data.

    With ``final_scores`` it scores its last weights, and mixtures of them, into its last checkpoint; if it ``tells``,
    it says amid its first unit how far it is.
    """
    experiment = view.experiment.model_copy(update={"seed": view.experiment.seed + view.replica})
    checkpoint = None if view.checkpoint is None else sweep / view.checkpoint
    given = worker_config(experiment, trial_resources, checkpoint, attempt=view.attempts, every_s=checkpoint_every_s)
    told = {"number": view.number, "sweep": str(sweep), "folder": view.name, "arm": view.arm, "replica": view.replica}
    return given | told | {"final_scores": final_scores, "tells": tells}


def worker_config(
    experiment: Experiment,
    trial_resources: TrialResources,
    checkpoint: StorageLocation | None,
    *,
    attempt: int = 0,
    every_s: float = 0.0,
) -> dict[str, Any]:
    """What a worker is told about any experiment: on what it runs, and where it goes on from."""
    return {
        "experiment": experiment.model_dump(mode="json"),
        "attempt": attempt,
        "device": trial_resources.device,
        "threads": trial_resources.cpus,
        "gpus": trial_resources.gpus,
        "workers": trial_resources.workers,
        "checkpoint_every_s": every_s,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }


def number_of(trial: Trial) -> int:
    """Our number of one of Tune's trials. Each attempt at a trial is one of Tune's."""
    return int(trial.config["number"])


def folder_of(trial: Trial) -> str:
    """Name of the folder of one of Tune's trials."""
    return str(trial.config["folder"])


def measured_key(config: dict[str, Any]) -> bytes:
    """Under what the worker of a trial's ``config`` tells how far it is."""
    return f"{config['sweep']}/{config['folder']}/{config['attempt']}".encode()


class UnitWatch:
    """Sees the steps of a trial's first unit in this process, and tells the driver when its images have been shown."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key, self._clock = key, clock
        self._first: tuple[float, int] | None = None
        self._next_s = FIRST_TOLD_S

    def __call__(self, step: Step) -> None:
        """Take note of a step, and tell of it if it is time."""
        now = self._clock()
        if self._first is None:
            self._first = now, step.images
            return
        began, images = self._first
        end = (images // step.unit_images + 1) * step.unit_images
        if now - began < self._next_s or step.images >= end:
            return
        self._next_s *= 2
        left_s = (now - began) * (end - step.images) / (step.images - images)
        told = {"images": step.images - end + step.unit_images, "unit_images": step.unit_images, "left_s": left_s}
        # What is told to pass the time costs no trial.
        with suppress(ray.exceptions.RayError, RuntimeError):
            internal_kv._internal_kv_put(self._key, json.dumps(told).encode(), namespace=MEASURED)


class HandTrial(Trainable):  # type: ignore[misc]
    """One experiment. Its results are the core's reports as plain data."""

    _given: dict[str, Any]
    _drive: Drive | None = None
    _folder: Path | None = None
    _last: Report | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Take ``config``, which ``trial_config`` made; of what fails here Ray would hand over the text alone."""
        self._given = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make this process ready for the next trial; nothing of the last one stays but imports and caches."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train and validate one budget unit; the first one begins the trial, or goes on from its checkpoint.

        Raises what ``begin`` raises, and UnwritableError if this node cannot write, or the storage stays away.
        """
        if self._drive is None:
            # Tune may start a second process for a trial that a reused one has taken meanwhile; each has a folder.
            above = Path(self.logdir)
            self._folder = Path(with_retry(partial(tempfile.mkdtemp, prefix="run-", dir=above), path=above))
            self._unsaved_s = 0.0
            self._drive = begin(self._given, self._folder, select_device(self._given["device"]))
        report = next(self._drive, None)
        if report is None:
            # Taken up at its end. Tune wants a result all the same, and drops this one.
            return {DONE: True, RESULT_DUPLICATE: True}
        self._last = report
        self._unsaved_s += report.seconds
        due = self._unsaved_s >= self._given["checkpoint_every_s"]
        self._unsaved_s = 0.0 if due else self._unsaved_s
        return asdict(report) | {SHOULD_CHECKPOINT: due, MEMORY: peak_own_memory()}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what going on from it and the export of the best trial need."""
        assert self._drive is not None, "Tune saves after a step"
        self._drive.save(Path(checkpoint_dir))
        if self._given["final_scores"] and self._last is not None and self._last.done:
            write_final_scores(Path(checkpoint_dir), self._drive, self._last)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Put the state into the sweep's storage, and again while that is away, or the node's disk is full."""
        del checkpoint_dir
        return with_retry(self._save, path=Path(self._storage.trial_fs_path))

    def cleanup(self) -> None:
        """End the experiment and free what it held."""
        if self._drive is not None:
            self._drive.close()
            self._drive = self._last = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        # Cycles hold the last model, and its memory is what the next trial needs.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _save(self) -> Any:
        last = self._storage.current_checkpoint_index
        try:
            with scratch_folder() as folder:
                return super().save(str(folder))
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


def begin(config: dict[str, Any], folder: Path, device: torch.device) -> Drive:
    """Begin the experiment of a trial's ``config`` in ``folder``, or go on from its checkpoint.

    Raises LostStateError if the sweep is there and the checkpoint is missing or damaged; UnwritableError if the storage
    stays away, or the node's disk full.
    """
    reset_peak_memory(torch.device("cpu"))  # of the trial before in this process
    torch.set_num_threads(config["threads"])
    threadpool_limits(config["threads"])  # NumPy's, which a fork has from the process that it is one of
    saved = None if config["checkpoint"] is None else parse_location(config["checkpoint"])

    def opened() -> Drive:
        experiment = Experiment.model_validate(config["experiment"])
        watch = UnitWatch(measured_key(config)) if config.get("tells") else None
        start = partial(drive, experiment, folder, device=device, write=partial(with_retry, path=folder), watch=watch)
        return start() if saved is None else _resumed(saved, start)

    return with_retry(opened, path=saved or folder, verb="read or written")


def _resumed(saved: StorageLocation, start: Callable[..., Drive]) -> Drive:
    try:
        with local_copy(saved) as checkpoint:
            return start(resume=checkpoint)
    except (InputError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        # While a storage is away nothing is in it, which does not mean that the state is lost.
        passing = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if passing or not is_folder(saved.parent.parent):
            raise OSError(str(error)) from error
        raise LostStateError(str(error)) from None
