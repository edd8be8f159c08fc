"""A sweep as its journal tells it."""

from pathlib import Path
from typing import Any

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Adapters, AnyStrategy, Full
from tests.tune_jobs.made_up import MadeUpSweep
from tests.tune_jobs.simulated import settings
from tune_jobs.reporting.record import SweepRecord, scored
from tune_jobs.search.proposer import Proposal


def made_up(*tried: tuple[AnyStrategy, float | None], **changed: Any) -> SweepRecord:
    """Trials one after another with their scores; without one it failed."""
    sweep = MadeUpSweep()
    for strategy, score in tried:
        view = sweep.begin(Proposal(Experiment(strategy=strategy), {}, "sampled"))
        if score is None:
            sweep.end(view, "failed", reason="lost")
        else:
            sweep.complete(view, score)
    where = Path("made-up")
    return SweepRecord(where, where, settings(where, **changed), sweep.events)


def test_the_events_tell_the_trials_and_arms_stand_by_their_best() -> None:
    record = made_up((Full(), 0.3), (Adapters(), 0.6), (Full(), None), (Full(), 0.5))
    assert [view.score for view in scored(record.all_trials.all())] == [0.3, 0.6, 0.5]
    numbers = {arm: [view.number for view in views] for arm, views in record.by_arm.items()}
    assert list(numbers.items()) == [("adapters", [1]), ("full", [3, 0, 2])]
    assert record.objective.name == "map"


def test_a_strategy_keeps_its_colour_though_another_is_the_best_or_has_no_trial() -> None:
    records = [made_up((Full(), 0.3), (Adapters(), 0.6)), made_up((Full(), 0.6)), made_up()]
    assert len({record.palette.colour("full") for record in records}) == 1
    assert len({records[0].palette.colour(arm) for arm in records[0].settings.arms}) == 3


def test_of_no_trial_there_is_no_score() -> None:
    assert scored([]) == []
    assert made_up().by_arm == {}
