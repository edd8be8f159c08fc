"""The best trial's results, gathered into one folder that needs neither Ray nor the sweep."""

import shutil
from pathlib import Path

from ray.tune import Checkpoint

from handclip_core.devices import select_device
from handclip_core.experiment import Experiment
from handclip_core.runs import RunFolder


def collect(folder: Path, experiment: Experiment, checkpoint: Checkpoint, device: str) -> None:
    """Write settings, weights, log, scores and validation embeddings of a trial into ``folder``, replacing it whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with checkpoint.as_directory() as saved:
        run, _ = RunFolder.restore(partial, experiment, Path(saved))
        run.finish(checkpoint=Path(saved), device=select_device(device))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
