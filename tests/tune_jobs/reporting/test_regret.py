import math

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.reporting.regret import early_stopping_regret
from tune_jobs.state.trial import Status, TrialView

EXPERIMENT = Experiment(strategy=ZeroShot())


def ran(number: int, arm: str, *scores: float, stopped: bool = False) -> TrialView:
    status, curve = Status.STOPPED if stopped else Status.COMPLETE, dict(enumerate(scores, start=1))
    return TrialView(number, arm, {}, EXPERIMENT, status=status, curve=curve, unit=len(scores))


FAST = [ran(0, "probe", 0.5, 0.6, 0.6, 0.6), ran(1, "probe", 0.4, stopped=True)]


def test_a_sweep_in_which_nothing_was_stopped_has_nothing_to_tell() -> None:
    found = early_stopping_regret([ran(0, "full", 0.1, 0.2)], budget=2, first_rung=1)
    assert found.lines() == ["early stopping ended no trial"]
    assert early_stopping_regret([], budget=2, first_rung=1).lines() == ["early stopping ended no trial"]


def test_a_strategy_that_never_came_past_the_first_rung_is_named() -> None:
    slow = [ran(number, "full", 0.1 + number / 100, stopped=True) for number in (2, 3)]
    found = early_stopping_regret([*FAST, *slow], budget=4, first_rung=1)
    probe, full = found.arms
    assert (full.trials, full.finished, full.lost_at_first_rung, full.lost_all, full.untold) == (2, 0, 2, True, 2)
    assert not probe.lost_all
    text = "\n".join(found.lines())
    assert "full: all 2 trials were stopped at the first rung; it may be a slow starter" in text
    assert "full: nothing ran on past 2 stopped trials" in text


def test_gains_of_those_that_ran_on_tell_who_might_have_won() -> None:
    """After unit 1 the finished ones of ``full`` gained 0.1 and 0.5; 0.35 + 0.5 beats 0.8, and so does 0.55 + 0.3."""
    trials = [
        ran(0, "full", 0.3, 0.7, 0.8),
        ran(1, "full", 0.6, 0.7, 0.65),
        ran(2, "full", 0.35, stopped=True),
        ran(3, "full", 0.55, stopped=True),
        ran(4, "full", 0.2, stopped=True),
    ]
    found = early_stopping_regret(trials, budget=3, first_rung=1)
    (full,) = found.arms
    assert full.possible == (2, 3)
    assert full.likely == (3,)
    assert (full.untold, full.lost_all) == (0, False)
    assert "full: trials 2, 3 might have won without early stopping, 1 of them likely" in found.lines()


def test_a_later_rung_is_compared_with_gains_from_there_on() -> None:
    trials = [
        ran(0, "full", 0.1, 0.7, 0.75),
        ran(1, "full", 0.2, 0.6, stopped=True),
    ]
    (full,) = early_stopping_regret(trials, budget=3, first_rung=1).arms
    assert full.possible == ()
    assert full.lost_at_first_rung == 0


def test_what_was_saved_is_counted_in_units() -> None:
    found = early_stopping_regret(FAST, budget=4, first_rung=1)
    assert (found.units, found.units_saved) == (5, 3)
    assert found.lines()[0] == (
        "early stopping ended 1 of 2 trials and saved 38% of the units; "
        "none of them would have won, as far as curves tell"
    )


def test_scores_that_are_not_numbers_count_as_none() -> None:
    trials = [*FAST, ran(2, "full", math.nan, stopped=True), ran(3, "probe", 0.9, math.nan)]
    found = early_stopping_regret(trials, budget=4, first_rung=1)
    assert [one.arm for one in found.arms] == ["probe"]
    assert found.arms[0].trials == 3
