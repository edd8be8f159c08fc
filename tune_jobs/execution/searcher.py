"""What runs next, as a search algorithm of Ray Tune: trials to be taken up again, then new ones."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher

from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.search.proposer import Proposal, Proposer
from tune_jobs.state.trials import Status, Trials, TrialView


class SweepSearcher(Searcher):  # type: ignore[misc]
    """Hands out trials one by one. Each attempt at a trial is one of Tune's trials."""

    def __init__(
        self,
        proposer: Proposer,
        all_trials: Trials,
        *,
        trials: int,
        limit_check: LimitCheck,
        begin: Callable[[Proposal], TrialView],
        config: Callable[[TrialView], dict[str, Any]],
        at_a_time: Callable[[], int],
        waits: Callable[[], None],
    ) -> None:
        """``trials`` in all, of which ``at_a_time`` says how many may be under way now.

        ``begin`` records what was proposed, ``config`` is what a worker reads. ``waits`` is called again and
        again while nothing may be under way.
        """
        # No metric of Tune's: it would refuse every unit that was not judged, and what is judged comes by the recorder.
        super().__init__()
        self._proposer = proposer
        self._all_trials = all_trials
        self._trials = trials
        self._limit_check = limit_check
        self._begin = begin
        self._config = config
        self._at_a_time = at_a_time
        self._waits = waits
        self._again: deque[int] = deque()
        self._under_way: set[str] = set()
        self.ended_by: str | None = None

    def take_up(self, unfinished: Iterable[int]) -> None:
        """Hand out ``unfinished`` trials again before any new one."""
        for number in unfinished:
            self.again(number)

    def again(self, number: int) -> None:
        """Hand out trial ``number`` once more, before any new one."""
        if number not in self._again:
            self._again.append(number)

    @property
    def num_under_way(self) -> int:
        """Attempts that have been handed out and are not over."""
        return len(self._under_way)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next attempt; FINISHED where nothing is left.

        None where all places are taken, and where nothing is left but what runs, which may still fail.
        """
        if len(self._under_way) >= self._at_a_time():
            if not self._under_way:
                # Then Tune takes no step, and asks until it is given a trial.
                self._waits()
            return None
        view = self._next()
        if view is not None:
            self._under_way.add(trial_id)
            return self._config(view)
        finished: str = Searcher.FINISHED
        return None if self._under_way else finished

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that an attempt is over; the recorder learns more about its end than Tune says here."""
        del result, error
        self._under_way.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the state of the search follows from the sweep's journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Refused: Tune's snapshots hold no state of this search."""
        raise NotImplementedError("the state of the search follows from the sweep's journal")

    def _next(self) -> TrialView | None:
        reason = self._limit_check.closed_to_new_trials()
        self.ended_by = reason if self._is_unfinished() else None
        if reason is not None:
            return None
        if self._again:
            return self._all_trials.trials[self._again.popleft()]
        if len(self._all_trials.trials) >= self._trials:
            return None
        proposal = self._proposer.next(self._all_trials)
        return None if proposal is None else self._begin(proposal)

    def _is_unfinished(self) -> bool:
        """Whether a limit keeps anything from being done: trials that it cut short, and those not yet begun."""
        cut = any(view.status is Status.INTERRUPTED for view in self._all_trials.unfinished())
        return cut or bool(self._again) or len(self._all_trials.trials) < self._trials
