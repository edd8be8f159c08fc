"""What one sweep can learn from the trials of another."""

from collections import Counter

import pytest

from search_spaces.joint import JointSpace
from tests.tune_jobs.made_up import MadeUpSweep
from tune_jobs.config.search import Search
from tune_jobs.config.settings import SweepSettings
from tune_jobs.search.proposer import SearchProposer
from tune_jobs.search.transfer import transfer
from tune_jobs.state.trials import Trials

OLD = ("zero_shot", "full", "adapters")
NEW = ("zero_shot", "linear_probe", "adapters")
RATE = "strategy/optim/lr"
ONE, TWO = ("map",), ("map", "params_trained")


@pytest.fixture(scope="module")
def other() -> Trials:
    """Sixteen trials that were complete or stopped early, one that failed, and one that never ended."""
    sweep, proposer = MadeUpSweep(), SearchProposer(SweepSettings(strategies=OLD, trials=100))
    for number in range(16):
        trial = sweep.begin(proposer.next(sweep.all_trials))
        sweep.score(trial, 0.25, 0.5)
        sweep.end(trial, "stopped" if number % 4 == 3 else "complete")
    sweep.end(sweep.begin(proposer.next(sweep.all_trials)), "failed", reason="lost")
    sweep.begin(proposer.next(sweep.all_trials))
    return sweep.all_trials


def space(ranges: dict[str, tuple[float, float]] | None = None) -> JointSpace:
    return Search(ranges=ranges or {}).space(NEW)


def test_what_agrees_is_taken_and_the_rest_is_dropped_with_its_reason(other: Trials) -> None:
    found = transfer(other, space({"adapters/optim/lr": (1e-4, 2e-3)}), ONE, others=ONE)
    of_adapters = [view for view in other.all()[:16] if view.strategy == "adapters"]
    fits = [view for view in of_adapters if float(str(view.params[RATE])) <= 2e-3]
    assert 0 < len(fits) < len(of_adapters)
    assert [trial.params[RATE] for trial in found.taken] == [view.params[RATE] for view in fits]
    assert sorted(found.dropped) == sorted(set(other.trials) - {view.number for view in fits})
    assert found.dropped[0] == "zero_shot has nothing to search"
    assert found.dropped[1] == "strategy 'full' is not in this sweep"
    assert (found.dropped[16], found.dropped[17]) == ("failed", "never ended")
    outside = found.dropped[next(r.number for r in of_adapters if r not in fits)]
    assert outside.startswith("adapters/optim/lr: ")
    assert outside.endswith("lies outside 0.0001 to 0.002")


def test_the_drops_are_counted_by_their_reason(other: Trials) -> None:
    found = transfer(other, space(), ONE, others=ONE)
    assert found.lines()[0] == f"{len(found.taken)} of 18 trials are used"
    lost = Counter(found.dropped.values())["strategy 'full' is not in this sweep"]
    assert f"  {lost} dropped: strategy 'full' is not in this sweep" in found.lines()
    assert len(found.lines()) == 1 + len(set(found.dropped.values()))


def test_scores_of_a_whole_budget_and_of_a_part_of_it_stay_apart(other: Trials) -> None:
    found = transfer(other, space(), ONE, others=ONE)
    of_adapters = [view for view in other.all()[:16] if view.strategy == "adapters"]
    assert [trial.complete for trial in found.taken] == [view.number % 4 != 3 for view in of_adapters]
    assert {trial.values for trial in found.taken} == {(0.5,)}
    assert all(trial.curve == {1: 0.25, 2: 0.5} for trial in found.taken)


def test_finished_trials_of_other_objectives_are_dropped(other: Trials) -> None:
    found = transfer(other, space(), TWO, others=ONE)
    assert all(not trial.complete for trial in found.taken)
    assert "has the objectives map, this sweep map, params_trained" in found.dropped.values()


def test_several_objectives_are_taken_with_all_of_their_values(other: Trials) -> None:
    found = transfer(other, space(), TWO, others=TWO)
    complete = [trial for trial in found.taken if trial.complete]
    assert complete
    assert all((trial.values, trial.curve) == ((0.5, 10.0), {}) for trial in complete)
