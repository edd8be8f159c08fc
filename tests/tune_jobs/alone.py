"""Trials in this process, outside any cluster."""

from collections.abc import Callable
from typing import Any

from handclip_core.engine.phase import Optim
from handclip_core.runs.run_folder import RunFolder
from handclip_core.strategies import Full
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.trainable import HandTrial

Config = Callable[..., dict[str, Any]]
"""Makes what a worker is told about a trial."""
Start = Callable[..., HandTrial]
"""Begins a trial that is told that."""
BATCH = 16
ROOM = TrialResources(device="cpu", cpus=1, gpus=0.0, concurrent=1, num_nodes=1)


def full(lr: float = 1e-3) -> Full:
    return Full(optim=Optim(lr=lr, batch_size=BATCH))


def record_of(trial: HandTrial) -> RunFolder:
    assert trial._drive is not None
    return trial._drive.record
