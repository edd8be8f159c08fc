"""What one trial's events make of it."""

from math import isnan, nan, sqrt
from typing import Any

import pytest

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from tests.tune_jobs.made_up import metrics, validated
from tune_jobs.state.events import (
    Cut,
    Dropped,
    Ended,
    Measured,
    Moved,
    Retried,
    Saved,
    SeedEnded,
    Started,
    Trained,
    TrialEvent,
)
from tune_jobs.state.trial import State, Status, TrialView

STARTED, LOST = Started(at=100.0, trial=0), Retried(at=150.0, trial=0, reason="lost")


def after(*happened: TrialEvent, **given: Any) -> TrialView:
    """A trial after what ``happened``."""
    view = TrialView(0, "full", {}, Experiment(strategy=Full(), micro_batch=64), **given)
    for event in happened:
        view.apply(event)
    return view


def unit(number: int, score: float, *, best: float | None = None, **changed: Any) -> TrialEvent:
    """A unit that was validated, its best weights those of unit 1 if ``best`` is another score."""
    more: dict[str, Any] = {} if best is None else {"best": metrics(best), "best_unit": 1}
    return validated(0, number, score, **more | changed)


def trained(number: int, **changed: Any) -> Trained:
    """A unit that was not validated."""
    values: dict[str, Any] = {
        "at": 0.0, "trial": 0, "unit": number, "images": 100, "seconds": 3.0, "params_trained": 10, "training": {},
    }  # fmt: skip
    return Trained(**values | changed)


def saved(number: int, size: int = 10) -> Saved:
    return Saved(at=0.0, trial=0, unit=number, checkpoint=f"checkpoint_{number}", size=size)


def test_only_complete_stopped_and_failed_are_over() -> None:
    assert {status for status in Status if status.over} == {Status.COMPLETE, Status.STOPPED, Status.FAILED}


def test_a_trial_is_called_by_number_and_strategy_and_compared_by_arm() -> None:
    view = TrialView(12, "full", {}, Experiment(strategy=Full()))
    assert (view.name, view.arm) == ("0012-full", "full")
    view.backbone = "RN50"
    assert (view.name, view.arm) == ("0012-full", "full@RN50")


def test_units_add_up_and_the_best_weights_give_the_score() -> None:
    view = after(STARTED, unit(1, 0.6, seconds=2.0, memory=5), trained(2, memory=9), unit(3, 0.5, best=0.6))
    assert (view.status, view.unit, view.score, view.best_unit) == (Status.RUNNING, 3, 0.6, 1)
    assert (view.seconds, view.num_units, view.slowest_s, view.memory) == (2.0 + 3.0 + 1.0, 3, 3.0, 9)
    assert view.curve == {1: 0.6, 3: 0.5}
    assert (view.params_trained, view.furthest, view.done) == (10, (0, 3), False)


def test_a_unit_that_is_trained_again_changes_the_weights_but_not_what_was_seen() -> None:
    view = after(STARTED, unit(1, 0.6), unit(2, 0.7), LOST, STARTED, unit(1, 0.61))
    assert (view.unit, view.score, view.curve) == (1, 0.61, {1: 0.6, 2: 0.7})
    assert (view.num_units, view.attempts, view.failures, view.furthest) == (3, 2, 1, (0, 2))


def test_failures_are_forgotten_by_coming_further_than_ever() -> None:
    view = after(STARTED, unit(1, 0.5), LOST, LOST, unit(1, 0.5))
    assert view.failures == 2
    view.apply(unit(2, 0.5))
    assert (view.failures, view.killed_alone) == (0, 0)


def test_a_halved_batch_is_no_failure_and_a_move_counts_apart() -> None:
    halved = Retried(at=0.0, trial=0, reason="out of memory", micro_batch=32)
    view = after(STARTED, halved)
    assert (view.status, view.failures, view.experiment.micro_batch) == (Status.WAITING, 0, 32)
    moves = [Moved(at=0.0, trial=0, reason="low on memory", alone=alone) for alone in (True, False, True)]
    view = after(STARTED, *moves)
    assert (view.status, view.failures, view.killed_alone) == (Status.WAITING, 0, 2)


def test_it_began_when_a_worker_first_took_it_up() -> None:
    view = after(STARTED, LOST, Started(at=200.0, trial=0), Ended(at=300.0, trial=0, status="failed", reason="lost"))
    assert (view.started_at, view.ended_at, view.attempts) == (100.0, 300.0, 2)
    assert (view.status, view.reason) == (Status.FAILED, "lost")


def test_how_far_it_is_amid_a_unit_is_known_until_that_ends_or_it_starts_anew() -> None:
    told = Measured(at=0.0, trial=0, images=10, unit_images=100, left_s=9.0)
    assert after(STARTED, told).measured == told
    assert after(STARTED, told, trained(1)).measured is None
    assert after(STARTED, told, LOST, STARTED).measured is None


def test_a_limit_interrupts_it_and_it_keeps_what_it_has() -> None:
    view = after(STARTED, unit(1, 0.5), saved(1), Cut(at=0.0, trial=0))
    assert (view.status, view.checkpoint, view.has_score) == (Status.INTERRUPTED, "checkpoint_1", True)


def test_its_saved_state_is_its_best_only_from_the_best_unit_on() -> None:
    view = after(STARTED, unit(1, 0.4), saved(1, size=7), unit(2, 0.5, best_unit=2))
    assert (view.states, view.held_bytes, view.best_is_saved) == (("checkpoint_1",), 7, False)
    view.apply(saved(2, size=8))
    assert (view.states, view.held_bytes, view.best_is_saved) == (("checkpoint_2",), 8, True)
    view.apply(Dropped(at=0.0, trial=0))
    assert (view.states, view.held_bytes, view.best_is_saved, view.score) == ((), 0, False, 0.5)


def test_one_that_starts_anew_has_no_state() -> None:
    anew = Retried(at=0.0, trial=0, reason="its state is damaged", anew=True)
    view = after(STARTED, unit(1, 0.4), saved(1), anew)
    assert (view.checkpoint, view.saved_unit, view.held_bytes, view.failures) == (None, -1, 0, 1)


def test_scores_over_seeds_are_means_and_the_weights_those_of_the_first() -> None:
    first, second = metrics(0.5, retention=0.9), metrics(0.7, retention=0.1)
    view = after(STARTED, unit(3, 0.5, done=True), saved(3, size=7), SeedEnded(at=0.0, trial=0, metrics=first))
    assert (view.status, view.replica, view.unit, view.done) == (Status.WAITING, 1, 0, False)
    assert (view.first, view.checkpoint) == (State("checkpoint_3", 3, 7), None)
    assert (view.states, view.best_is_saved) == (("checkpoint_3",), False)
    assert isnan(view.sd)
    for event in (STARTED, unit(1, 0.7, replica=1), saved(1, size=5)):
        view.apply(event)
    assert (view.score, view.present["map"], view.curve) == (0.5, 0.7, {3: 0.5})
    assert (view.states, view.held_bytes) == (("checkpoint_1", "checkpoint_3"), 12)
    view.apply(SeedEnded(at=0.0, trial=0, metrics=second))
    view.apply(Ended(at=9.0, trial=0, status="complete"))
    assert view.score == pytest.approx(0.6)
    assert view.metrics["retention"] == 0.9, "that of the weights that are kept"
    assert view.sd == pytest.approx(0.2 / sqrt(2))
    assert (view.checkpoint, view.saved_unit, view.checkpoint_bytes, view.first) == ("checkpoint_3", 3, 7, None)
    assert (view.unit, view.done, view.best_is_saved) == (3, True, True)


def test_a_later_seed_is_further_than_any_unit_of_the_one_before() -> None:
    view = after(STARTED, unit(3, 0.5), SeedEnded(at=0.0, trial=0, metrics=metrics(0.5)), LOST, unit(1, 0.5, replica=1))
    assert (view.furthest, view.failures) == ((1, 1), 0)


def test_without_a_number_and_after_a_failure_there_is_no_score_to_be_ranked_by() -> None:
    assert not after().has_score
    assert not after(unit(1, nan)).has_score
    assert after(unit(1, 0.5)).has_score
    assert not after(unit(1, 0.5), Ended(at=0.0, trial=0, status="failed", reason="lost")).has_score


def test_a_fit_on_all_identities_is_final_unless_it_failed() -> None:
    whole, failed = (TrialView(0, "full", {}, Experiment(strategy=Full(), part="train_all")) for _ in range(2))
    failed.apply(Ended(at=0.0, trial=0, status="failed", reason="lost"))
    assert [view.is_final_fit for view in (whole, failed, after())] == [True, False, False]


def test_scores_that_stay_as_they_were_are_told_from_those_that_rise() -> None:
    still = after(unit(1, 0.5), unit(2, 0.501))
    assert still.hardly_moved_by(2)
    assert not still.hardly_moved_by(3), "it was not trained as long"
    assert not after(unit(1, 0.5), unit(2, 0.6)).hardly_moved_by(2)
    assert not after(unit(1, 0.5)).hardly_moved_by(1), "one validation says nothing"
