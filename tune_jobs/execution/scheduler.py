"""Early stopping and limits as a scheduler of Ray Tune."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_jobs.execution.trainable import STATES_OF_AN_ATTEMPT, folder_of, number_of
from tune_jobs.execution.tune_internals import survive_lost_workers
from tune_jobs.scheduling.early_stopping import StoppingDecisions
from tune_jobs.scheduling.limits import LimitCheck

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class SweepScheduler(FIFOScheduler):  # type: ignore[misc]
    """Runs trials in the order of suggestion, stops those that fall behind, and all of them at a limit."""

    def __init__(
        self,
        decisions: StoppingDecisions,
        limit_check: LimitCheck,
        *,
        objective: str,
        failing: Callable[["Trial"], None],
    ) -> None:
        """Scores are those of the metric ``objective``.

        ``failing`` is told of a trial whose attempt fails, before Tune forgets its worker.
        """
        super().__init__()
        self._failing = failing
        self.decisions, self._objective = decisions, objective
        self.cut: set[int] = set()
        """Trials that were stopped by a limit alone, by number."""
        self._limit_check = limit_check

    def on_trial_add(self, tune_controller: "TuneController", trial: "Trial") -> None:
        """Give every attempt at a trial the trial's one folder, and numbers of saved states of its own in it."""
        if tune_controller is not None:  # a simulated sweep has none
            survive_lost_workers(tune_controller)
        self.cut.discard(number_of(trial))
        trial.relative_logdir = trial.storage.trial_dir_name = folder_of(trial)
        # Tune adds one before it saves.
        trial.storage.current_checkpoint_index = trial.config["attempt"] * STATES_OF_AN_ATTEMPT - 1

    def on_trial_error(self, tune_controller: "TuneController", trial: "Trial") -> None:
        """Pass it on."""
        del tune_controller
        self._failing(trial)

    def on_trial_result(self, tune_controller: "TuneController", trial: "Trial", result: dict[str, Any]) -> str:
        """Stop or continue, by the trial's best score so far, which Tune hands over in flat form.

        Early stopping judges evaluated units of a trial's first seed only, so that means over seeds are those of whole
        budgets; a limit can end the trial after any.
        """
        del tune_controller
        number = number_of(trial)
        exempt = trial.config["replica"] > 0 or not result["evaluated"]
        goes_on = exempt or self.decisions.goes_on(
            trial=number, arm=trial.config["arm"], unit=result["unit"], score=result[f"best/{self._objective}"]
        )
        # What early stopping ends is over for good, at a limit, too; what a limit cuts goes on later.
        if goes_on and self._limit_check.cuts(ahead_s=result["seconds"]):
            self.cut.add(number)
        return str(TrialScheduler.CONTINUE if goes_on and number not in self.cut else TrialScheduler.STOP)
