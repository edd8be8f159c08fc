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
from tune_jobs.state.trials import TrialView, folded
from tune_jobs.storage.location import StorageLocation


@dataclass(frozen=True)
class ScoredTrial:
    """A trial with a score: that of its best unit, on the sweep's own seed."""

    number: int
    strategy: str
    score: float
    experiment: Experiment


@dataclass(frozen=True)
class Searched:
    """What a sweep spent on a strategy: ``trials`` with a score and the budget ``units`` that they trained.

    ``seconds`` is the time that workers spent on all of its trials, those without a score included.
    """

    trials: int = 0
    units: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Searched") -> "Searched":
        return Searched(self.trials + other.trials, self.units + other.units, self.seconds + other.seconds)


@dataclass(frozen=True)
class PastSweep:
    """What a sweep has left; ``tried`` from the best to the worst.

    ``searched`` is what was spent on each strategy, in the order in which they were begun; ``stopping`` says in
    sentences what early stopping has saved and may have cost.
    """

    where: StorageLocation
    settings: SweepSettings
    tried: tuple[ScoredTrial, ...]
    searched: dict[str, Searched]
    stopping: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.where.name

    @property
    def strategies(self) -> tuple[str, ...]:
        """Every strategy that the sweep began."""
        return tuple(self.searched)


def read_sweep(where: StorageLocation) -> PastSweep:
    """The sweep at ``where``; raises InputError if there is none, or none of its trials has a score."""
    if not is_sweep(where):
        raise InputError(f"{where}: no sweep of this name; {_others(where.parent)}")
    settings, folder = stored_settings(where), readable_folder(where)
    all_trials = folded(read_events(folder))
    tried = [ScoredTrial(r.number, r.strategy, r.score, r.experiment) for r in all_trials.ranked() if r.has_score]
    if not tried:
        raise InputError(f"{where}: no trial has a score yet; let the sweep end first")
    searched: dict[str, Searched] = {}
    for view in all_trials.all():
        searched[view.strategy] = searched.get(view.strategy, Searched()) + _searched(view, settings)
    return PastSweep(where, settings, tuple(tried), searched, tuple(regret_lines(all_trials, settings)))


def _searched(view: TrialView, settings: SweepSettings) -> Searched:
    """What one trial adds to what was spent on its strategy."""
    seconds = settings.resources.workers * view.seconds
    if not view.has_score:
        return Searched(seconds=seconds)
    return Searched(1, len(view.seeds) * settings.budget + (0 if view.seeds and view.done else view.unit), seconds)


def _others(storage: StorageLocation) -> str:
    """What a user who has mistyped a sweep's name may have meant."""
    found = sorted(path.parent.name for path in storage.glob(f"*/{SETTINGS}")) if isinstance(storage, Path) else []
    return f"there are {', '.join(found)}" if found else "there are no sweeps; give their folder as --storage"
