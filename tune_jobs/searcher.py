"""The study as a search algorithm of Ray Tune: it only asks; the recorder tells."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from handclip_core.experiment import Experiment
from handclip_core.strategies import Strategy
from tune_jobs.records import Records, TrialRecord
from tune_jobs.study import SweepStudy


class StudySearcher(Searcher):  # type: ignore[misc]
    """Suggests the config of a trial and opens its record."""

    def __init__(
        self,
        study: SweepStudy,
        records: Records,
        *,
        experiment: Callable[[Strategy], Experiment],
        config: Callable[[TrialRecord], dict[str, Any]],
    ) -> None:
        """``experiment`` completes a strategy, ``config`` turns a trial into what its worker reads."""
        super().__init__(metric="map", mode="max")
        self._study = study
        self._records = records
        self._experiment = experiment
        self._config = config

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The config of a new trial, or FINISHED where there is nothing left to try."""
        asked = self._study.ask()
        if asked is None:
            finished: str = Searcher.FINISHED
            return finished
        experiment = self._experiment(asked.strategy)
        record = TrialRecord(asked.number, asked.strategy.name, asked.params, experiment)
        self._records.by_id[trial_id] = record
        return self._config(record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the recorder learns more about the end of a trial than Tune says here."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's database is the state of the search."""

    def restore(self, checkpoint_path: str) -> None:
        """Refused: Tune's snapshots hold no state of this search."""
        raise NotImplementedError("the study's database is the state of the search")
