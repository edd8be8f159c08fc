"""What runs next, as a search algorithm of Ray Tune: trials to be taken up again, then new ones."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher

from tune_jobs.config.settings import SweepSettings
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import TrialMonitor
from tune_jobs.execution.trainable import trial_config
from tune_jobs.scheduling.early_stopping import StoppingDecisions
from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.scheduling.seeds import is_power_baseline
from tune_jobs.search.proposer import Proposer, SearchProposer
from tune_jobs.state.events import Begun
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.storage.location import StorageLocation


class SweepSearcher(Searcher):  # type: ignore[misc]
    """Hands out trials one by one. Each attempt at a trial is one of Tune's trials."""

    def __init__(
        self,
        settings: SweepSettings,
        where: StorageLocation,
        trial_resources: TrialResources,
        proposer: Proposer | None,
        *,
        state: SweepState,
        decisions: StoppingDecisions,
        limit_check: LimitCheck,
        monitor: TrialMonitor,
    ) -> None:
        """Of the sweep at ``where``; ``proposer`` says what to try, or by default what ``settings`` search for."""
        # No metric of Tune's: it would refuse every unit that was not validated; what is, comes by the callback.
        super().__init__()
        self._settings, self._where, self._trial_resources = settings, where, trial_resources
        self._proposer, self._searched = proposer or SearchProposer(settings), proposer is None
        self._state, self._all_trials = state, state.all_trials
        self._decisions, self._limit_check, self._monitor = decisions, limit_check, monitor
        self._again: deque[int] = deque()
        self._under_way: set[str] = set()
        self.ended_by: str | None = None
        """The limit that ended the sweep before its last trial, if one did."""
        self.waits: Callable[[], None] = lambda: None
        """Called again and again while nothing may be under way: Tune takes no step before it is given a trial."""

    def take_up(self, unfinished: Iterable[int]) -> None:
        """Hand out trials again, by number, before any new one."""
        self._again.extend(number for number in unfinished if number not in self._again)

    @property
    def num_under_way(self) -> int:
        """Attempts that have been handed out and are not over."""
        return len(self._under_way)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next attempt; FINISHED if nothing is left.

        None if all places are taken, and if nothing is left but what runs, which may still fail.
        """
        if len(self._under_way) >= self._monitor.at_a_time():
            if not self._under_way:
                self.waits()
            return None
        view = self._next()
        if view is None:
            return None if self._under_way else str(Searcher.FINISHED)
        self._under_way.add(trial_id)
        self._monitor.asked_for(view.number)
        return trial_config(
            view,
            self._where,
            trial_resources=self._trial_resources,
            checkpoint_every_s=self._settings.checkpoint_every_s,
            # What trains on all identities has none left to be scored on.
            final_scores=not self._searched and view.experiment.part == "train",
            tells=self._all_trials.awaits_result,
        )

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that an attempt is over; the callback learns more about its end than Tune says here."""
        del result, error
        self._under_way.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the state of the search follows from the sweep's journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Refused: Tune's snapshots hold no state of this search."""
        raise NotImplementedError("the state of the search follows from the sweep's journal")

    def _next(self) -> TrialView | None:
        all_trials, reason = self._all_trials, self._limit_check.closed_to_new_trials()
        left = len(all_trials.trials) < self._settings.trials
        cut = any(view.status is Status.INTERRUPTED for view in all_trials.unfinished())
        # A limit that leaves nothing undone has ended nothing.
        self.ended_by = reason if cut or self._again or left else None
        if reason is not None:
            return None
        if self._again:
            return all_trials.trials[self._again.popleft()]
        proposal = self._proposer.next(all_trials) if left else None
        if proposal is None:
            return None
        number = len(all_trials.trials)
        self._state.happened(Begun(at=self._state.clock(), trial=number, **vars(proposal)))
        view = all_trials.trials[number]
        # All of its seeds use their whole budget, or their spread would tell nothing.
        if is_power_baseline(view, all_trials, self._settings):
            self._decisions.exempt.add(number)
        return view
