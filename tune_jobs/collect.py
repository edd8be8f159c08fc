"""The best trial's results, gathered into one folder that needs neither Ray nor the sweep."""

import shutil
from pathlib import Path

from handclip_core.devices import select_device
from handclip_core.experiment import Experiment
from handclip_core.runs import RunFolder


def collect(folder: Path, experiment: Experiment, checkpoint: Path, device: str) -> None:
    """Write settings, weights, log, scores and validation embeddings of a trial into ``folder``, replacing it whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    run, _ = RunFolder.restore(partial, experiment, checkpoint)
    run.finish(checkpoint=checkpoint, device=select_device(device))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
