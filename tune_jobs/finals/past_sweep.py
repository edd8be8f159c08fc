"""A sweep that is over, as its journal tells it."""

from dataclasses import dataclass

from handclip_core.errors import InputError
from tune_jobs.config.settings import SweepSettings
from tune_jobs.lifecycle.reading import read_record
from tune_jobs.reporting.record import scored
from tune_jobs.reporting.summary import regret_lines
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import by_arm
from tune_jobs.storage.location import StorageLocation


@dataclass(frozen=True)
class Searched:
    """What a sweep spent on an arm: ``trials`` with a score and the budget ``units`` that they trained.

    ``seconds`` is the time that workers spent on all of its trials, those without a score included.
    """

    trials: int = 0
    units: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Searched") -> "Searched":
        return Searched(self.trials + other.trials, self.units + other.units, self.seconds + other.seconds)


@dataclass(frozen=True)
class PastSweep:
    """What a sweep has left: the trials ``tried`` that have a score, from the best to the worst.

    ``searched`` is what was spent on each arm, in the order in which they were begun; ``stopping`` says in
    sentences what early stopping has saved and may have cost.
    """

    where: StorageLocation
    settings: SweepSettings
    tried: tuple[TrialView, ...]
    searched: dict[str, Searched]
    stopping: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.where.name

    @property
    def arms(self) -> tuple[str, ...]:
        """Every strategy that the sweep began, on every backbone."""
        return tuple(self.searched)


def read_sweep(where: StorageLocation) -> PastSweep:
    """The sweep at ``where``; raises InputError if there is none, or none of its trials has a score."""
    sweep = read_record(where)
    settings, all_trials = sweep.settings, sweep.all_trials
    tried = tuple(scored(all_trials.ranked()))
    if not tried:
        raise InputError(f"{where}: no trial has a score yet; let the sweep end first")
    trials = by_arm(all_trials.all()).items()
    searched = {arm: sum((_searched(view, settings) for view in views), Searched()) for arm, views in trials}
    return PastSweep(where, settings, tried, searched, tuple(regret_lines(all_trials, settings)))


def _searched(view: TrialView, settings: SweepSettings) -> Searched:
    """What one trial adds to what was spent on its strategy."""
    seconds = settings.resources.workers * view.seconds
    if not view.has_score:
        return Searched(seconds=seconds)
    return Searched(1, len(view.seeds) * settings.budget + (0 if view.seeds and view.done else view.unit), seconds)
