"""A sweep that is over, as its journal tells it."""

from dataclasses import dataclass
from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from tune_jobs.config.settings import SETTINGS, SweepSettings
from tune_jobs.lifecycle.build import read_events
from tune_jobs.lifecycle.folders import is_sweep, stored_settings
from tune_jobs.reporting.summary import regret_lines
from tune_jobs.state.local_copy import readable_folder
from tune_jobs.state.trials import folded
from tune_jobs.storage.location import StorageLocation


@dataclass(frozen=True)
class ScoredTrial:
    """A trial with a score: that of its best unit, on the sweep's own seed."""

    number: int
    strategy: str
    score: float
    experiment: Experiment


@dataclass(frozen=True)
class PastSweep:
    """What a sweep has left; ``tried`` from the best to the worst.

    ``seconds`` is the time that workers spent on each strategy, trials without a score included, in the order in which
    the strategies were begun; ``stopping`` says in sentences what early stopping has saved and may have cost.
    """

    where: StorageLocation
    settings: SweepSettings
    tried: tuple[ScoredTrial, ...]
    seconds: dict[str, float]
    stopping: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.where.name

    @property
    def strategies(self) -> tuple[str, ...]:
        """Every strategy that the sweep began."""
        return tuple(self.seconds)


def read_sweep(where: StorageLocation) -> PastSweep:
    """The sweep at ``where``; raises InputError if there is none, or none of its trials has a score."""
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep of this name; {_others(where.parent)}")
    settings, folder = stored_settings(where), readable_folder(where)
    all_trials = folded(read_events(folder))
    tried = [ScoredTrial(r.number, r.strategy, r.score, r.experiment) for r in all_trials.ranked() if r.has_score]
    if not tried:
        raise InputError(f"{where}: no trial has a score yet; let the sweep end first")
    seconds: dict[str, float] = {}
    for view in all_trials.all():
        seconds[view.strategy] = seconds.get(view.strategy, 0.0) + settings.resources.workers * view.seconds
    return PastSweep(where, settings, tuple(tried), seconds, tuple(regret_lines(all_trials, settings)))


def _others(storage: StorageLocation) -> str:
    """What a user who has mistyped a sweep's name may have meant."""
    found = sorted(path.parent.name for path in storage.glob(f"*/{SETTINGS}")) if isinstance(storage, Path) else []
    return f"there are {', '.join(found)}" if found else "there are no sweeps; give their folder as --storage"
