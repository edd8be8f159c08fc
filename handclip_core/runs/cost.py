"""What a finished run took: weights, memory and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import assemble
from handclip_core.runs.run_folder import LOG, read_experiment, read_log


@dataclass(frozen=True)
class Cost:
    """``params_trained`` of ``params`` weights; most memory in ``peak_mib``, and ``train_s`` seconds of training, NaN
    without a log.

    Memory is that of the GPU, or of the whole process, see ``peak_memory``; none if it was not measured.
    """

    params_trained: int
    params: int
    peak_mib: float | None
    train_s: float

    @property
    def share_trained(self) -> float:
        """The part of the weights that is trained."""
        return self.params_trained / self.params


def cost_of(folder: Path, context: ExperimentContext) -> Cost:
    """The cost of the run in ``folder``, whose data and backbone are those of ``context``."""
    ready, log = assemble(read_experiment(folder), context), read_log(folder / LOG) if (folder / LOG).exists() else []
    params = sum(parameter.numel() for parameter in ready.model.parameters())
    train_s = sum(row["train_s"] for row in log) if log else nan
    return Cost(ready.params_trained, params, most(log, "peak_mib"), train_s)


def together(costs: Sequence[Cost]) -> Cost:
    """What several runs took, one after the other."""
    peaks = [cost.peak_mib for cost in costs if cost.peak_mib is not None]
    return Cost(
        sum(cost.params_trained for cost in costs),
        sum(cost.params for cost in costs),
        max(peaks, default=None),
        sum(cost.train_s for cost in costs),
    )


def most(log: Sequence[dict[str, Any]], column: str) -> float | None:
    """The largest value of a column of a log; none if no row has one."""
    return max((float(row[column]) for row in log if column in row), default=None)
