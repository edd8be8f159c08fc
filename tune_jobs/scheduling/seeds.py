"""How many seeds a trial gets: those of the settings, and the calibration's for the trial that serves as baseline.

The seeds of a trial run one after another. Only the first is judged by early stopping: where it is stopped or fails, so
is the trial, and its other seeds are never begun; where it ends, the others use the whole budget, and the trial's score
is the mean. Every trial gets the same seeds, so that a difference between two of them is one between pairs.
"""

from tune_jobs.config.settings import SweepSettings
from tune_jobs.scheduling.power_analysis import SEEDS
from tune_jobs.state.trials import Records, TrialRecord

UNTRAINED = "zero_shot"
"""The strategy that no seed makes a difference to."""


def seeds_of(record: TrialRecord, records: Records, settings: SweepSettings) -> int:
    """The number of seeds that a trial gets."""
    wanted = 1 if record.strategy == UNTRAINED else settings.search.replicas
    return max(wanted, SEEDS) if calibrates(record, records, settings) else wanted


def calibrates(record: TrialRecord, records: Records, settings: SweepSettings) -> bool:
    """Whether a trial is the one whose seeds tell what the sweep can see: the first that trains anything."""
    if not settings.search.calibrate or record.strategy == UNTRAINED:
        return False
    return all(other.strategy == UNTRAINED for other in records.all() if other.number < record.number)
