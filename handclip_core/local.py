"""Train one experiment in this process, with a line a unit and a checkpoint to go on from."""

from pathlib import Path

import torch

from handclip_core.engine.state import Resume
from handclip_core.errors import InputError
from handclip_core.runs.context import open_bench
from handclip_core.runs.experiment import Experiment, Progress, assemble, run
from handclip_core.runs.run_folder import CONFIG, METRICS, RunFolder, read_experiment


def train_into(folder: Path, experiment: Experiment, *, device: torch.device, resume: bool = False) -> RunFolder:
    """Run ``experiment`` to its end and write its folder; with ``resume``, go on from the folder's checkpoint.

    Raises InputError where the folder holds another run or, to resume, none.
    """
    assemble(experiment, open_bench(experiment.data, experiment.backbone, device))  # refuses before a folder is made
    record, state = _reopen(folder, experiment) if resume else (_new(folder, experiment), None)
    for progress in run(experiment, device=device, resume=state):
        record.record(progress)
        record.keep_checkpoint(progress)
        print(_line(experiment, progress), flush=True)
    checkpoint = record.kept_checkpoint()
    assert checkpoint is not None, "a run reports at least once"
    record.finish(checkpoint=checkpoint, device=device)
    record.drop_checkpoint()
    return record


def _new(folder: Path, experiment: Experiment) -> RunFolder:
    if (folder / CONFIG).exists():
        raise InputError(f"{folder}: holds a run already; pass --resume to go on, or choose another --out")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose a folder for --out")
    return RunFolder.create(folder, experiment)


def _reopen(folder: Path, experiment: Experiment) -> tuple[RunFolder, Resume | None]:
    if read_experiment(folder) != experiment:
        raise InputError(f"{folder / CONFIG}: is of another experiment; resume with `train {folder / CONFIG}`")
    if (folder / METRICS).exists():
        raise InputError(f"{folder}: the run is complete; there is nothing to resume")
    checkpoint = RunFolder(folder, experiment).kept_checkpoint()
    if checkpoint is None:
        return RunFolder.create(folder, experiment), None
    return RunFolder.restore(folder, experiment, checkpoint)


def _line(experiment: Experiment, progress: Progress) -> str:
    losses = "".join(f"  {name} {value:.4f}" for name, value in progress.losses.items())
    scores = f"  val mAP {progress.metrics['map']:.4f}  R1 {progress.metrics['cmc1']:.4f}" if progress.judged else ""
    return f"unit {progress.unit}/{experiment.budget}  {progress.images} images{scores}{losses}"
