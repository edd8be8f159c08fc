"""What is known of all trials after every event of a sweep."""

import math
from pathlib import Path

import pytest

from handclip_core.runs.experiment import Experiment
from tests.tune_jobs.simulated import ROOM, rising, run, settings
from tests.tune_jobs.simulation import Step
from tune_jobs.state.events import Dropped, Event
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status
from tune_jobs.state.trials import Trials
from tune_jobs.storage.location import folder_of


def of_three_scores(experiment: Experiment, unit: int) -> Step:
    """Many trials are equal, and some have no score."""
    del unit
    score = round(3 * rising(experiment, 9).score) / 3
    return Step(math.nan if score == 0 else score, seconds=30.0)


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    swept = settings(tmp_path_factory.mktemp("swept"), trials=24)
    run(swept, of_three_scores, trial_resources=ROOM)
    assert isinstance(swept.storage, Path)
    return read_journal(folder_of(swept.storage / swept.name) / FILE)


def test_what_is_kept_at_hand_is_what_a_look_at_every_trial_finds(happened: list[Event]) -> None:
    all_trials = Trials()
    for event in happened:
        all_trials.apply(event)
        views = list(all_trials.trials.values())
        assert all_trials.unfinished() == [view for view in views if not view.status.over]
        assert all_trials.holding() == [view for view in views if view.states]
        assert all_trials.num_over() == sum(view.status.over for view in views)
        scored = [view for view in views if view.has_score]
        # The first of equals.
        assert all_trials.best is (max(scored, key=lambda view: view.score) if scored else None)
    assert {Status.COMPLETE, Status.STOPPED} <= {view.status for view in all_trials.all()}
    assert any(isinstance(event, Dropped) for event in happened)


def test_trials_that_are_given_are_known_as_those_that_are_told_of(happened: list[Event]) -> None:
    told = Trials()
    for event in happened:
        told.apply(event)
    given = Trials(dict(told.trials))
    assert (given.best, given.holding(), given.num_over()) == (told.best, told.holding(), told.num_over())
