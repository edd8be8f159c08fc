"""One experiment on the workers of a cluster, without a sweep: by the same Ray Train function as trials."""

import json
import queue
import shutil
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

from ray.train import Checkpoint, Result
from ray.train.v2.api.callback import UserCallback
from ray.util.queue import Queue

from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.local import finish, line, origin, say
from handclip_core.runs.drive import Report
from handclip_core.runs.experiment import Experiment, assemble, context_of
from handclip_core.runs.run_folder import RunFolder, link, read_experiment
from handclip_core.signals import Ended
from tune_jobs.config.settings import MOVING_STATISTICS, Resources
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.train_fn import MARKER, SNAPSHOT, fit
from tune_jobs.execution.trainable import worker_config
from tune_jobs.storage.location import open_location

POLL_EVERY_S = 0.2


class ReportsTo(UserCallback):  # type: ignore[misc]
    """Puts the first worker's reports into a queue."""

    def __init__(self, reports: Queue) -> None:
        self._reports = reports

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called by the run's controller once all workers have reported."""
        del run_context, checkpoint
        self._reports.put(metrics[0])


def train_on_cluster(folder: Path, experiment: Experiment, *, resources: Resources, resume: bool = False) -> RunFolder:
    """Run ``experiment`` to its end on ``resources.workers`` workers, and write its folder as one process would.

    The folder must be one that all nodes see. With ``resume``, go on from the folder's checkpoint. Raises InputError,
    before anything is written, if the folder holds another run or, to resume, none, or if the workers do not fit.
    """
    if resources.workers > 1 and experiment.backbone.batch_norm == "moving":
        raise InputError(f"--workers: {MOVING_STATISTICS}")
    settle(folder)
    checkpoint = origin(folder, experiment, resume=resume)
    cluster.connect()
    trial_resources = cluster.fit_trials(resources, cluster.nodes())
    cluster.run_on_every_node(trial_resources, check, experiment.model_dump_json())
    RunFolder.create(folder, experiment)
    try:
        _train(folder, experiment, trial_resources, checkpoint)
    except (Ended, KeyboardInterrupt):
        cluster.end()  # nothing is to write into the folder any more
        raise
    finally:
        settle(folder)
    return cluster.run_where_trials_run(trial_resources, complete, folder, experiment)


def check(wanted: str, device: str) -> None:
    """Build the caches of a node for an experiment, given as JSON; raises InputError if it does not fit the data."""
    experiment = Experiment.model_validate(json.loads(wanted))
    context = context_of(experiment, select_device(device))
    assemble(experiment, context)
    _ = context.feature_inputs


def complete(folder: Path, experiment: Experiment, device: str) -> RunFolder:
    """Complete the folder of a run that is at its end."""
    checkpoint = RunFolder(folder, experiment).kept_checkpoint()
    assert checkpoint is not None, "the last unit is saved"
    return finish(RunFolder.reopen(folder, experiment, checkpoint), device=select_device(device))


def settle(folder: Path) -> None:
    """Keep the last checkpoint that Ray Train left in ``folder`` under the name of a run's own; remove the others."""
    if not (folder / MARKER).exists():
        return
    if (folder / SNAPSHOT).exists():
        last = Result.from_path(str(folder)).checkpoint
        if last is not None:
            RunFolder(folder, read_experiment(folder)).keep_checkpoint(lambda into: _link(Path(last.path), into))
        (folder / SNAPSHOT).unlink()
    for left in folder.glob("checkpoint_*"):
        shutil.rmtree(left)
    (folder / MARKER).unlink()


def _link(source: Path, target: Path) -> None:
    # Not moved: after a kill at any moment it is still there to be kept.
    shutil.copytree(source, target, copy_function=lambda one, into: link(Path(one), Path(into)))


def _train(folder: Path, experiment: Experiment, trial_resources: TrialResources, checkpoint: Path | None) -> None:
    config = worker_config(experiment, trial_resources, checkpoint)
    reports, failed = Queue(), []

    def run() -> None:
        try:
            fit(config, open_location(folder.parent), name=folder.name, callbacks=[ReportsTo(reports)], keep=1)
        except Exception as error:
            failed.append(error)

    # In the main thread Ray Train would catch Ctrl-C and leave with exit code 0.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_EVERY_S)
        _show(folder, experiment, reports)
    _show(folder, experiment, reports)
    reports.shutdown()
    if failed:
        raise failed[0]


def _show(folder: Path, experiment: Experiment, reports: Queue) -> None:
    while True:
        try:
            told = reports.get_nowait()
        except queue.Empty:
            return
        known = {item.name: told[item.name] for item in fields(Report) if item.name in told}
        say(folder, line(experiment, Report(**known, done=False)))
