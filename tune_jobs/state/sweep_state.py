"""The one place through which the state of a sweep changes: the journal first, then what is computed from it."""

import secrets
import time
from collections.abc import Callable, Iterable

from tune_jobs.state.events import Created, Event
from tune_jobs.state.journal import Journal
from tune_jobs.state.trials import Trials, folded


class SweepState:
    """The journal of a sweep and the trials that follow from it."""

    def __init__(self, journal: Journal, events: Iterable[Event], *, clock: Callable[[], float] = time.time) -> None:
        """``events`` are those that ``journal`` holds already; ``clock`` gives the seconds since 1970."""
        self._journal = journal
        self.all_trials = folded(events)
        self.clock = clock
        self.written_at = clock()
        """When the last event happened."""
        self.exports: list[Callable[[Event, Trials], None]] = []
        """Called with every event once it is in the journal, and with the trials as they are after it."""

    def happened(self, event: Event) -> None:
        """Write an event down, and let trials and exports follow; raises InputError if the storage stays away."""
        # The first line names the sweep, whatever happens first in it.
        if not self.all_trials.sweep and not isinstance(event, Created):
            self.happened(Created(at=event.at, sweep=secrets.token_hex(8)))
        self._journal.append(event)
        self.written_at = event.at
        self.all_trials.apply(event)
        for export in self.exports:
            export(event, self.all_trials)
