"""Several workers for one experiment: a Ray Train function, and the run of Ray Train around it.

Every worker holds the whole model and goes through the same budget units; Ray Train makes them a process group, and
``handclip_core.process_group`` adds their gradients up. The first worker saves.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from pyarrow import fs  # type: ignore[import-untyped]
from ray import tune
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, get_device
from ray.train.v2.api.callback import UserCallback
from ray.tune.integration.ray_train import TuneReportCallback

from handclip_core.devices import Device
from handclip_core.runs.drive import Drive, Report
from handclip_core.scratch import scratch_folder
from tune_jobs.execution.train_internals import QuietTorchTrainer, cause_of
from tune_jobs.execution.trainable import STATES_OF_AN_ATTEMPT, begin
from tune_jobs.storage.location import Store, open_location, parse_location
from tune_jobs.storage.retry import with_retry

GROUP_TIMEOUT_S = 600
"""How long a worker waits for the others before the run counts as failed."""
NODE, NODES, GROUP = "node", "nodes", "placement_group"
SNAPSHOT, MARKER = "checkpoint_manager_snapshot.json", ".validate_storage_marker"
"""Files that Ray Train keeps in the folder of a run."""
TRAIN_ENVIRONMENT = {
    # Reports reach the driver after so many seconds at most; two by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # The driver watches nodes, and shows what there is to show.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Relative paths mean the same in a worker as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Workers may wait for a node; after this, Ray Train asks for their places anew.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
}


class NodesReportCallback(TuneReportCallback):  # type: ignore[misc]
    """Hands the first worker's report on to Tune, with the nodes of all workers and their placement group."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called by the run's controller once all workers have reported."""
        first = {**metrics[0], NODES: [each[NODE] for each in metrics]}
        super().after_report(run_context, [first, *metrics[1:]], checkpoint)


def train_fn(config: dict[str, Any]) -> None:
    """Train the experiment of a trial's ``config`` on this worker, and report every unit.

    The first worker reports a checkpoint at the last unit, at a new best one, and after ``checkpoint_every_s``.
    """
    first, unsaved_s = ray.train.get_context().get_world_rank() == 0, 0.0
    where = {NODE: ray.get_runtime_context().get_node_id(), GROUP: ray.util.get_current_placement_group().id.hex()}
    device = get_device() if config["device"] == Device.CUDA else torch.device("cpu")
    with scratch_folder() as folder:
        driven = begin(config, folder / "run", device)
        for report in driven:
            unsaved_s += report.seconds
            wanted = report.done or report.best.get("unit") == report.unit or unsaved_s >= config["checkpoint_every_s"]
            if wanted and first:
                _report_saved(driven, report, where, config["attempt"])
            else:
                ray.train.report(_plain(report, where))
            unsaved_s = 0.0 if wanted else unsaved_s


def train_trial(config: dict[str, Any]) -> None:
    """A trial of several workers, as a function of Ray Tune; raises what a worker raised.

    Checkpoints go to the trial's folder in the sweep's storage.
    """
    trials = parse_location(config["sweep"]) / tune.get_context().get_experiment_name()
    store = open_location(trials)
    snapshot = f"{store.path}/{config['folder']}/{SNAPSHOT}"

    def forget() -> None:
        if store.filesystem.get_file_info(snapshot).is_file:
            store.filesystem.delete_file(snapshot)

    # A run of Ray Train that finds its own state from an earlier attempt insists on all checkpoints of that.
    with_retry(forget, path=trials)
    fit(config, store, name=config["folder"], callbacks=[NodesReportCallback()])


def fit(
    config: dict[str, Any], store: Store, *, name: str, callbacks: Sequence[UserCallback] = (), keep: int | None = None
) -> None:
    """Run ``train_fn`` on the workers that ``config`` asks for; raises what a worker or Ray Train raised.

    Checkpoints go to the folder ``name`` in ``store``, of which Ray Train keeps the last ``keep``, or all.
    """
    os.environ.update(TRAIN_ENVIRONMENT)
    on_gpus = config["device"] == Device.CUDA
    trainer = QuietTorchTrainer(
        train_fn,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo", timeout_s=GROUP_TIMEOUT_S),
        scaling_config=ScalingConfig(
            num_workers=config["workers"],
            use_gpu=on_gpus,
            resources_per_worker={"CPU": config["threads"]} | ({"GPU": config["gpus"]} if on_gpus else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=store.path,
            storage_filesystem=store.filesystem,
            # The sweep counts failures and begins attempts.
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(num_to_keep=keep),
            callbacks=list(callbacks),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise cause_of(error) from None


def _plain(report: Report, where: dict[str, str]) -> dict[str, Any]:
    # The run ends by itself after its last unit; ``done`` would let Tune kill it there.
    return {name: value for name, value in asdict(report).items() if name != "done"} | where


def _report_saved(driven: Drive, report: Report, where: dict[str, str], attempt: int) -> None:
    with scratch_folder() as folder:
        with_retry(partial(driven.save, folder), path=folder)
        ray.train.report(
            _plain(report, where),
            checkpoint=Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=f"checkpoint_{attempt * STATES_OF_AN_ATTEMPT + report.unit:09d}",
            checkpoint_upload_fn=_uploaded,
        )


def _uploaded(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Ray Train's own upload gives up while the storage is away."""
    storage = ray.train.get_context().get_storage()
    store, run = storage.storage_filesystem, storage.experiment_fs_path

    def copy() -> None:
        # A folder that is made where a storage is mounted at other times would swallow the state.
        if store.get_file_info(run).type is not fs.FileType.Directory:
            raise OSError(f"{run}: is away")
        store.create_dir(f"{run}/{name}")
        fs.copy_files(checkpoint.path, f"{run}/{name}", destination_filesystem=store)

    with_retry(copy, path=Path(run))
    return Checkpoint(f"{run}/{name}", store)
