"""The best trial's results, gathered into one folder that needs neither Ray nor the sweep."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from handclip_core.devices import select_device
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import RunFolder
from tune_jobs.storage.checkpoints import drop_state
from tune_jobs.storage.location import StorageLocation, local_copy

BEST = "best"


def export_best(where: StorageLocation, experiment: Experiment, checkpoint: StorageLocation, device: str) -> None:
    """Write settings, weights, log, scores and validation embeddings of a trial to ``where``, replacing it whole."""
    with local_copy(checkpoint) as state, replaced(where) as folder:
        run, _ = RunFolder.restore(folder, experiment, state)
        run.finish(checkpoint=state, device=select_device(device))


@contextmanager
def replaced(where: StorageLocation) -> Iterator[Path]:
    """A folder to fill, which takes its place at ``where`` after the block."""
    if isinstance(where, Path):
        partial = where.with_name(f"{where.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        yield partial
        shutil.rmtree(where, ignore_errors=True)
        partial.rename(where)
        return
    with TemporaryDirectory(prefix="handclip-") as folder:
        yield Path(folder)
        drop_state(where)
        for file in sorted(Path(folder).iterdir()):
            (where / file.name).send(file)
