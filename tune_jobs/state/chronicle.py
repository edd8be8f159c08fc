"""The one place through which a sweep's state changes: the journal first, then the records, then the study.

A driver may die between any two of these; ``resume`` brings what comes later in line with the journal.
"""

import time
from collections.abc import Callable
from math import isnan

from tune_jobs.search.study import SweepStudy
from tune_jobs.state.events import Ended, Event, Validated
from tune_jobs.state.journal import Journal
from tune_jobs.state.objectives import measures_of
from tune_jobs.state.trials import Records, Status, TrialRecord


class Chronicle:
    """Journal, records and study of a sweep, kept in line."""

    def __init__(
        self, journal: Journal, records: Records, study: SweepStudy, *, clock: Callable[[], float] = time.time
    ) -> None:
        """``clock`` gives the seconds since 1970."""
        self._journal = journal
        self.records = records
        self.study = study
        self.clock = clock
        self.written_at = clock()
        """When the last event happened."""

    def happened(self, event: Event) -> None:
        """Write an event down, and let records and study follow. Raises InputError where the storage stays away."""
        told = isinstance(event, Validated) and not self._is_new(event)
        self._journal.append(event)
        self.written_at = event.at
        self.records.apply(event)
        match event:
            case Validated() if not told:
                self.study.report(event.trial, unit=event.unit, value=event.metrics["map"])
            case Ended():
                self.tell(self.records.trials[event.trial])
            case _:
                pass

    def _is_new(self, event: Validated) -> bool:
        """Whether the study has to hear of a unit: one of the first seed, for the first time."""
        return event.replica == 0 and event.unit not in self.records.trials[event.trial].curve

    def tell(self, record: TrialRecord) -> None:
        """Tell the study how a trial that is over has ended."""
        self.study.note(record.number, outcome=outcome_of(record))
        match record.status:
            case Status.COMPLETE:
                self.study.complete(record.number, value=record.map, measures=measures_of(record))
            case Status.STOPPED:
                self.study.prune(record.number)
            case _:
                self.study.fail(record.number, reason=record.reason)


def outcome_of(record: TrialRecord) -> dict[str, object]:
    """What the study notes about a trial that is over, as plain values."""
    return {
        "status": record.status,
        "unit": record.unit,
        "best_unit": record.best_unit,
        "map": None if isnan(record.map) else record.map,
        "cmc1": None if isnan(record.cmc1) else record.cmc1,
        "retention": None if isnan(record.retention) else record.retention,
        "seconds": round(record.seconds, 3),
        "params_trained": record.params_trained,
        "attempts": record.attempts,
        "micro_batch": record.experiment.micro_batch,
        "seeds": [score for score, _ in record.seeds],
    }
