"""What becomes of a trial after each of its results."""

from math import nan
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.tune_jobs.made_up import opened
from tests.tune_jobs.simulation import Clock
from tune_jobs.config.settings import EarlyStopping, Limits
from tune_jobs.execution.scheduler import SweepScheduler
from tune_jobs.execution.trainable import STATES_OF_AN_ATTEMPT
from tune_jobs.scheduling.early_stopping import decisions_for
from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.state.trials import Trials, folded

GOES_ON, STOPS = TrialScheduler.CONTINUE, TrialScheduler.STOP


def scheduler(limits: Limits | None = None, all_trials: Trials | None = None, **told: Any) -> SweepScheduler:
    """Rungs at units 1 and 2 of 4; the better half goes on."""
    decisions = decisions_for(EarlyStopping(grace=1, reduction=2), budget=4)
    check = LimitCheck(limits or Limits(), all_trials or Trials(), clock=Clock(1000.0))
    return SweepScheduler(decisions, check, objective="map", failing=told.get("failing", lambda _: None))


def trial(number: int, *, arm: str = "full", replica: int = 0, attempt: int = 0) -> Any:
    """One of Tune's trials."""
    config = {"number": number, "arm": arm, "replica": replica, "attempt": attempt, "folder": f"{number:04d}-full"}
    return SimpleNamespace(config=config, storage=SimpleNamespace(trial_dir_name="", current_checkpoint_index=-1))


def result(unit: int, score: float, *, seconds: float = 10.0) -> dict[str, Any]:
    """What Tune hands over, in flat form: the unit's own score is below its best."""
    return {"unit": unit, "evaluated": True, "best/map": score, "metrics/map": score - 0.3, "seconds": seconds}


def test_who_falls_behind_at_a_rung_is_stopped_by_its_best_score() -> None:
    found = scheduler()
    assert found.on_trial_result(None, trial(0), result(1, 0.5)) == GOES_ON
    assert found.on_trial_result(None, trial(1), result(1, 0.4)) == STOPS
    assert found.on_trial_result(None, trial(2), result(1, 0.6)) == GOES_ON
    assert found.on_trial_result(None, trial(3), result(1, nan)) == STOPS
    assert found.on_trial_result(None, trial(4, arm="adapters"), result(1, 0.1)) == GOES_ON, "the first of its arm"
    assert found.cut == set(), "early stopping is no limit"


def test_units_without_a_score_and_later_seeds_are_judged_by_no_rung() -> None:
    found = scheduler()
    found.on_trial_result(None, trial(0), result(1, 0.5))
    unevaluated = {"unit": 1, "evaluated": False, "seconds": 10.0}
    assert found.on_trial_result(None, trial(1), unevaluated) == GOES_ON
    assert found.on_trial_result(None, trial(2, replica=1), result(1, 0.1)) == GOES_ON
    assert set(found.decisions.stopped) == set()


def running() -> Trials:
    """A sweep that began 900 seconds ago."""
    return folded([opened(100.0, gpus=1.0)])


@pytest.mark.parametrize(("replica", "evaluated"), [(0, True), (1, True), (0, False)])
def test_a_limit_cuts_whatever_would_not_end_within_it(replica: int, evaluated: bool) -> None:
    limits = Limits(hours=920 / 3600)
    found = scheduler(limits, running())
    told = result(1, 0.5, seconds=15.0) | {"evaluated": evaluated}
    assert found.on_trial_result(None, trial(0, replica=replica), told) == GOES_ON
    told["unit"], told["seconds"] = 2, 30.0
    assert found.on_trial_result(None, trial(0, replica=replica), told) == STOPS
    assert found.cut == {0}
    assert found.decisions.stopped == {}, "it may go on when the limit is raised"


def test_what_early_stopping_ends_at_a_limit_is_over_and_not_cut() -> None:
    found = scheduler(Limits(hours=920 / 3600), running())
    found.on_trial_result(None, trial(0), result(1, 0.5))
    assert found.on_trial_result(None, trial(1), result(1, 0.4, seconds=60.0)) == STOPS
    assert (found.cut, set(found.decisions.stopped)) == (set(), {1})


def test_what_was_cut_stays_so_until_it_is_handed_out_again() -> None:
    found = scheduler(Limits(hours=920 / 3600), running())
    found.on_trial_result(None, trial(0), result(1, 0.5, seconds=60.0))
    assert found.on_trial_result(None, trial(0), result(2, 0.6, seconds=1.0)) == STOPS
    found.on_trial_add(None, trial(0))
    assert found.cut == set()
    assert found.on_trial_result(None, trial(0), result(3, 0.7, seconds=1.0)) == GOES_ON


def test_every_attempt_has_the_trials_folder_and_numbers_of_states_that_no_other_has() -> None:
    found, given = scheduler(), [trial(3, attempt=attempt) for attempt in (0, 1, 2)]
    for one in given:
        found.on_trial_add(None, one)
        assert (one.relative_logdir, one.storage.trial_dir_name) == ("0003-full", "0003-full")
    first = [one.storage.current_checkpoint_index + 1 for one in given]
    assert first == [0, STATES_OF_AN_ATTEMPT, 2 * STATES_OF_AN_ATTEMPT]


def test_a_controller_learns_to_outlive_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    surviving: list[Any] = []
    monkeypatch.setattr("tune_jobs.execution.scheduler.survive_lost_workers", surviving.append)
    found: Any = scheduler()
    found.on_trial_add("the controller", trial(0))
    assert surviving == ["the controller"]


def test_failing_trials_are_passed_on() -> None:
    heard: list[Any] = []
    found: Any = scheduler(failing=heard.append)
    lost = trial(0)
    found.on_trial_error("the controller", lost)
    assert heard == [lost]
