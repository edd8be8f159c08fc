"""Train one experiment in this process, with a line a unit and a checkpoint to go on from."""

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.metrics import hardly_moved
from handclip_core.reports.step_progress import StepProgress
from handclip_core.runs.drive import Report, drive
from handclip_core.runs.experiment import Experiment, assemble, context_of
from handclip_core.runs.run_folder import CONFIG, METRICS, TRAIN_ACCURACY, RunFolder, read_experiment

TEXT_LOG = "train.log"


def train_into(folder: Path, experiment: Experiment, *, device: torch.device, resume: bool = False) -> RunFolder:
    """Run ``experiment`` to its end and write its folder; with ``resume``, go on from the folder's checkpoint.

    Raises InputError if the folder holds another run or, to resume, none.
    """
    budget = assemble(experiment, context_of(experiment, device)).budget  # refuses before a folder is made
    checkpoint = origin(folder, experiment, resume=resume)
    steps = StepProgress(budget.units * budget.epoch_images)
    driven = drive(experiment, folder, device=device, resume=checkpoint, watch=steps)
    for report in driven:
        steps.clear()
        driven.keep()
        say(folder, line(experiment, report))
        if report.unit == math.ceil(experiment.budget / 2) and hardly_moved(driven.record.scores):
            say(folder, experiment.task.metrics.hardly_moved)
    last, best = driven.record.log[-1]["unit"], driven.record.best["unit"] if driven.record.evaluated else 0
    if driven.record.out_of_patience and last < experiment.budget:
        told = f"{experiment.patience} validations without a better one than unit {best}"
        say(folder, f"ended after unit {last} of {experiment.budget}: {told} (patience)")
    return finish(driven.record, device=device)


def finish(run_folder: RunFolder, *, device: torch.device) -> RunFolder:
    """Complete the folder of a run that is at its end from its own checkpoint, which goes."""
    checkpoint = run_folder.kept_checkpoint()
    assert checkpoint is not None, "a run reports at least once"
    run_folder.finish(checkpoint=checkpoint, device=device)
    run_folder.drop_checkpoint()
    return run_folder


def summary(run_folder: RunFolder) -> str:
    """A complete run in a few lines."""
    folder = run_folder.folder
    if not run_folder.evaluated:
        return (
            f"fitted on all training identities, those of validation among them, so there is no score; the weights of "
            f"the last unit are in {folder}\nnext: python -m handclip_core evaluate {folder} --split test"
        )
    best = run_folder.best
    shown = ", ".join(f"{label} {value:.4f}" for label, value in _shown(run_folder.experiment, best))
    lines = [f"best validation {shown} at unit {best['unit']}; saved in {folder}"]
    if run_folder.sequence:
        lines.append(run_folder.sequence.text())
    return "\n".join([*lines, f"next: python -m handclip_core evaluate {folder} --split val"])


def origin(folder: Path, experiment: Experiment, *, resume: bool) -> Path | None:
    """The checkpoint to go on from in the folder of a run, None to begin it.

    Raises InputError if the folder holds a run although it is to be new, or another run, or one that is complete.
    """
    if resume:
        return _reopen(folder, experiment)
    _refuse_taken(folder)
    return None


def _refuse_taken(folder: Path) -> None:
    if (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds a run already; pass --resume to go on, or choose another --out")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose a folder for --out")


def _reopen(folder: Path, experiment: Experiment) -> Path | None:
    if read_experiment(folder) != experiment:
        raise InputError(f"{folder / CONFIG}: is of another experiment; resume with `train {folder / CONFIG}`")
    if (folder / METRICS).exists():
        raise InputError(f"{folder}: the run is complete; there is nothing to resume")
    return RunFolder(folder, experiment).kept_checkpoint()


def say(folder: Path, text: str) -> None:
    """Print a line about the run in ``folder``, and add it with the time to the run's own log file."""
    print(text, flush=True)
    with (folder / TEXT_LOG).open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {text}\n")


def line(experiment: Experiment, report: Report) -> str:
    """A unit of ``experiment`` in one line."""
    losses = "".join(
        f"  {name.removeprefix('loss/')} {value:.4f}"
        for name, value in report.training.items()
        if name.startswith("loss/")
    )
    shown = _shown(experiment, report.metrics) if report.evaluated else []
    scores = "  val " + "  ".join(f"{label} {value:.4f}" for label, value in shown) if shown else ""
    accuracy = report.training.get(TRAIN_ACCURACY)
    learned = "" if accuracy is None else f"  accuracy {accuracy:.4f}"
    return f"unit {report.unit}/{experiment.budget}  {report.images} images{scores}{losses}{learned}"


def _shown(experiment: Experiment, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """The first two of the metrics that tables show, by label."""
    return [(metric.label, metrics[metric.name]) for metric in experiment.task.metrics.in_tables[:2]]
