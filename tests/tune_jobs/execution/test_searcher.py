"""Which attempt Tune is handed next, and when it is handed none."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, ZeroShot
from tests.tune_jobs.made_up import opened
from tests.tune_jobs.simulated import ROOM, settings
from tests.tune_jobs.simulation import Clock
from tune_jobs.config.settings import Limits
from tune_jobs.execution.searcher import SweepSearcher
from tune_jobs.scheduling.early_stopping import decisions_for
from tune_jobs.scheduling.limits import LimitCheck
from tune_jobs.search.proposer import Proposal
from tune_jobs.state.events import Created, Cut, Ended, Retried, Started
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trials import Trials

FINISHED = Searcher.FINISHED
WHOLE = Experiment(strategy=Full(), part="train_all")


class Listed:
    """Proposes a fixed list."""

    def __init__(self, *experiments: Experiment) -> None:
        self.experiments = experiments

    def next(self, all_trials: Trials) -> Proposal | None:
        number = len(all_trials.trials)
        return Proposal(self.experiments[number], {}, "listed") if number < len(self.experiments) else None


class Driver:
    """A searcher with a journal of its own, on as many places as a test wants."""

    def __init__(self, journal: Journal, folder: Path, proposer: Any, changed: dict[str, Any]) -> None:
        self.clock, self.places, self.asked_for = Clock(1000.0), 9, list[int]()
        swept = settings(folder, **{"trials": 9, "checkpoint_every_s": 7.0} | changed)
        self.state = SweepState(journal, [], clock=self.clock)
        for event in (Created(at=900.0, sweep="a"), opened(900.0, gpus=1.0)):
            self.state.happened(event)
        self.limit_check = LimitCheck(Limits(), self.state.all_trials, clock=self.clock)
        self.decisions = decisions_for(swept.early_stopping, budget=swept.budget)
        monitor: Any = SimpleNamespace(at_a_time=lambda: self.places, asked_for=self.asked_for.append)
        self.searcher = SweepSearcher(
            swept, folder, ROOM, proposer,
            state=self.state, decisions=self.decisions, limit_check=self.limit_check, monitor=monitor,
        )  # fmt: skip
        self.attempts = 0

    def suggest(self) -> Any:
        self.attempts += 1
        return self.searcher.suggest(f"attempt-{self.attempts}")

    def start(self) -> int:
        """The number of the trial that is handed out next."""
        config = self.suggest()
        assert isinstance(config, dict), config
        self.state.happened(Started(at=self.clock(), trial=config["number"]))
        return int(config["number"])

    def ends(self, attempt: int) -> None:
        """The attempt is over in Tune's eyes."""
        self.searcher.on_trial_complete(f"attempt-{attempt}")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / FILE) as opened_journal:
        yield opened_journal


def listed(journal: Journal, folder: Path, *experiments: Experiment, **changed: Any) -> Driver:
    """A driver of a fixed list, by default of three experiments."""
    many = experiments or tuple(Experiment(strategy=Full(), seed=seed) for seed in range(3))
    return Driver(journal, folder, Listed(*many), {"trials": len(many), "strategies": ("full",)} | changed)


def test_new_trials_are_written_down_before_they_are_handed_out(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    config = driver.suggest()
    begun = read_journal(tmp_path / FILE)[-1]
    assert (begun.event, begun.at) == ("begun", 1000.0)
    assert (config["number"], config["folder"], config["arm"]) == (0, "0000-full", "full")
    assert (config["attempt"], config["checkpoint"], config["checkpoint_every_s"]) == (0, None, 7.0)
    assert driver.asked_for == [0]
    assert driver.searcher.num_under_way == 1


def test_it_is_finished_once_nothing_runs_that_may_still_fail(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    assert [driver.start() for _ in range(3)] == [0, 1, 2]
    assert driver.suggest() is None
    for attempt in (1, 2):
        driver.ends(attempt)
    assert driver.suggest() is None
    driver.ends(3)
    assert driver.suggest() == FINISHED
    assert driver.searcher.ended_by is None


def test_no_more_are_under_way_than_there_are_places(journal: Journal, tmp_path: Path) -> None:
    driver, waited = listed(journal, tmp_path), list[None]()
    driver.searcher.waits = lambda: waited.append(None)
    driver.places = 1
    driver.start()
    assert driver.suggest() is None
    assert waited == [], "Tune takes steps while something runs"
    driver.ends(1)
    driver.places = 0
    assert driver.suggest() is None
    assert (len(waited), len(driver.state.all_trials.trials)) == (1, 1), "nothing is proposed without a place"
    driver.places = 1
    assert driver.start() == 1


def test_trials_are_taken_up_in_order_before_new_ones_and_once(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    for attempt in (1, 2):
        number = driver.start()
        driver.ends(attempt)
        driver.state.happened(Retried(at=1000.0, trial=number, reason="lost"))
    driver.searcher.take_up([1, 0, 1])
    driver.searcher.take_up([0])
    config = driver.suggest()
    assert (config["number"], config["attempt"]) == (1, 1)
    assert [driver.start() for _ in range(2)] == [0, 2]


def test_a_limit_holds_back_what_is_left_and_says_so(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    driver.start()
    driver.limit_check.limits = Limits(hours=50 / 3600)
    assert driver.suggest() is None, "the first still runs"
    driver.searcher.take_up([0])
    driver.ends(1)
    assert driver.suggest() == FINISHED
    assert driver.searcher.ended_by == f"limits.hours: {50 / 3600:g}"
    driver.limit_check.limits = Limits()
    assert driver.start() == 0
    assert driver.searcher.ended_by is None


@pytest.mark.parametrize("cut", [False, True])
def test_a_limit_has_ended_a_sweep_only_if_it_left_something_undone(
    journal: Journal, tmp_path: Path, cut: bool
) -> None:
    driver = listed(journal, tmp_path, Experiment(strategy=Full()))
    driver.start()
    ended = Cut(at=1000.0, trial=0) if cut else Ended(at=1000.0, trial=0, status="complete")
    driver.state.happened(ended)
    driver.ends(1)
    driver.limit_check.limits = Limits(hours=50 / 3600)
    assert driver.suggest() == FINISHED
    assert (driver.searcher.ended_by is not None) is cut


def test_fixed_experiments_are_scored_at_their_end_unless_no_identity_is_left_for_that(
    journal: Journal, tmp_path: Path
) -> None:
    driver = listed(journal, tmp_path, Experiment(strategy=Full()), WHOLE)
    assert [driver.suggest()["final_scores"] for _ in range(2)] == [True, False]


def test_without_a_list_the_settings_are_searched_and_nothing_is_scored_at_the_end(
    journal: Journal, tmp_path: Path
) -> None:
    driver = Driver(journal, tmp_path, None, {"strategies": ("full", "linear_probe"), "trials": 2})
    configs = [driver.suggest() for _ in range(2)]
    assert [config["arm"] for config in configs] == ["full", "linear_probe"]
    assert [config["final_scores"] for config in configs] == [False, False]
    assert {view.origin for view in driver.state.all_trials.all()} == {"default"}


def test_the_baseline_of_a_power_analysis_is_never_stopped(journal: Journal, tmp_path: Path) -> None:
    many = (Experiment(strategy=ZeroShot()), Experiment(strategy=Full()), Experiment(strategy=Full(), seed=1))
    driver = listed(journal, tmp_path, *many, search={"power_analysis": True})
    for _ in many:
        driver.start()
    assert driver.decisions.exempt == {1}


def test_the_first_trials_tell_how_far_they_are_until_one_has_a_result(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    assert driver.suggest()["tells"] is True
    driver.state.all_trials.awaits_result = False
    assert driver.suggest()["tells"] is False


def test_tunes_snapshots_hold_nothing_of_it(journal: Journal, tmp_path: Path) -> None:
    driver = listed(journal, tmp_path)
    driver.searcher.save(str(tmp_path / "snapshot"))
    assert not (tmp_path / "snapshot").exists()
    with pytest.raises(NotImplementedError, match="journal"):
        driver.searcher.restore(str(tmp_path / "snapshot"))
