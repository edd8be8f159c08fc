"""How many seeds a trial gets: those of the settings, and those of the power analysis for the baseline.

The seeds of a trial run one after another. Only the first is judged by early stopping; if it ends, the others use the
whole budget, and the trial's score is the mean. Every trial gets the same seeds, so that differences are paired.
"""

from handclip_core.strategies import UNTRAINED
from tune_jobs.config.settings import SweepSettings
from tune_jobs.scheduling.power_analysis import SEEDS
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials


def seeds_of(view: TrialView, all_trials: Trials, settings: SweepSettings) -> int:
    """The number of seeds that a trial gets."""
    wanted = 1 if view.strategy in UNTRAINED else settings.search.replicas
    return max(wanted, SEEDS) if is_power_baseline(view, all_trials, settings) else wanted


def is_power_baseline(view: TrialView, all_trials: Trials, settings: SweepSettings) -> bool:
    """Whether a trial is the one whose seeds tell what the sweep can see: the first that trains anything."""
    if not settings.search.power_analysis or view.strategy in UNTRAINED:
        return False
    return all(other.strategy in UNTRAINED for other in all_trials.all() if other.number < view.number)
