"""The rung table as a scheduler of Ray Tune."""

from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_jobs.brackets import RungTable
from tune_jobs.trial import BEST_MAP, UNIT, strategy_of

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class RungScheduler(FIFOScheduler):  # type: ignore[misc]
    """Runs trials in the order of suggestion and stops those that fall behind their strategy's others at a rung.

    ``stopped`` holds the ids of the trials that it has ended.
    """

    def __init__(self, table: RungTable) -> None:
        super().__init__()
        self.table = table
        self.stopped: set[str] = set()

    def on_trial_result(self, tune_controller: "TuneController", trial: "Trial", result: dict[str, Any]) -> str:
        """Stop or continue, by the trial's best validation mAP so far: what its best weights give."""
        del tune_controller
        goes_on = self.table.report(
            group=strategy_of(trial.config), trial=trial.trial_id, unit=result[UNIT], score=result[BEST_MAP]
        )
        if not goes_on:
            self.stopped.add(trial.trial_id)
        decision: str = TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP
        return decision
