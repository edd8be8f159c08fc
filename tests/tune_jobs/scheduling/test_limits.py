"""Sweeps that come to a limit, on simulated hours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tests.tune_jobs.simulated import ROOM, begun, rising, run, settings, state_of
from tests.tune_jobs.simulation import Clock, Step
from tune_jobs.config.settings import EarlyStopping, Limits, StoppingKind, SweepSettings
from tune_jobs.scheduling.limits import GIB, checkpoints_to_drop
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

NO_STOPPING = EarlyStopping(kind=StoppingKind.NONE)


def limited(storage: Path, **limits: Any) -> SweepSettings:
    """27 trials of 5 units of 31 to 35 s each."""
    return settings(storage, trials=27, early_stopping=NO_STOPPING, limits=limits)


@pytest.mark.parametrize(("concurrent", "hours"), [(1, 0.5), (3, 0.25)])
def test_a_sweep_ends_within_its_hours_and_uses_nearly_all_of_them(
    tmp_path: Path, concurrent: int, hours: float
) -> None:
    ready = run(limited(tmp_path, hours=hours), trial_resources=replace(ROOM, concurrent=concurrent))
    assert ready.searcher.ended_by == f"limits.hours: {hours}"
    assert hours - 2 * 35 / 3600 < ready.all_trials.usage.hours <= hours
    statuses = [view.status for view in ready.all_trials.all()]
    assert statuses.count(Status.INTERRUPTED) <= concurrent
    assert len(statuses) < 27
    assert ready.all_trials.winner is not None


def test_gpu_hours_count_every_gpu(tmp_path: Path) -> None:
    trial_resources = replace(ROOM, concurrent=4, gpus=2.0)
    ready = run(limited(tmp_path, gpu_hours=2.0), trial_resources=trial_resources)
    assert ready.searcher.ended_by == "limits.gpu_hours: 2"
    assert 2.0 - 4 * 2 * 35 * 2 / 3600 < ready.all_trials.usage.gpu_hours <= 2.0
    assert ready.all_trials.usage.hours == pytest.approx(ready.all_trials.usage.gpu_hours / 8, rel=0.3)


def test_what_a_limit_cut_short_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    run(limited(tmp_path, hours=0.3))
    first = {trial[0]: trial for trial in state_of(tmp_path / "simulated")["trials"]}
    cut = [number for number, trial in first.items() if trial[1] is Status.INTERRUPTED]
    assert len(cut) <= 1
    run(limited(tmp_path))
    run(settings(tmp_path / "free", trials=27, early_stopping=NO_STOPPING))
    found, free = (state_of(path / "simulated") for path in (tmp_path, tmp_path / "free"))
    assert found["trials"] == free["trials"]
    assert found["study"] == free["study"]
    assert begun(tmp_path / "simulated") == list(range(27))


def test_hours_of_all_drivers_count_together(tmp_path: Path) -> None:
    clock = Clock()
    run(limited(tmp_path, hours=0.3), clock=clock)
    clock.now += 1e6
    ready = run(limited(tmp_path, hours=0.5), clock=clock)
    assert 0.45 < ready.all_trials.usage.hours <= 0.5


def test_a_limit_below_one_unit_ends_the_sweep_without_a_trial_that_finishes(tmp_path: Path) -> None:
    ready = run(limited(tmp_path, hours=0.001))
    assert ready.searcher.ended_by == "limits.hours: 0.001"
    assert [view.status for view in ready.all_trials.all()] == [Status.INTERRUPTED]


def held(number: int, score: float, gib: float, status: Status = Status.COMPLETE) -> TrialView:
    return TrialView(
        number,
        "zero_shot",
        {},
        Experiment(strategy=ZeroShot()),
        status=status,
        metrics={"map": score},
        checkpoint=f"c{number}",
        checkpoint_bytes=int(gib * GIB),
    )


def all_trials(*items: TrialView) -> Trials:
    return Trials({item.number: item for item in items})


def numbers(items: list[TrialView]) -> list[int]:
    return sorted(item.number for item in items)


def test_the_best_are_kept_the_earlier_of_equals_first_and_running_ones_all() -> None:
    found = all_trials(
        held(0, 0.5, 1),
        held(1, 0.7, 1),
        held(2, 0.5, 1),
        held(3, 0.9, 1, Status.FAILED),
        held(4, 0.1, 1, Status.RUNNING),
    )
    assert numbers(checkpoints_to_drop(found, keep=2, disk_gib=None)) == [2, 3]
    assert numbers(checkpoints_to_drop(found, keep=9, disk_gib=None)) == [3]


def test_a_small_disk_keeps_fewer_of_the_best_but_always_the_first() -> None:
    found = all_trials(*(held(n, 0.1 * n, 1.0) for n in range(5)), held(9, 0.0, 1.0, Status.RUNNING))
    assert numbers(checkpoints_to_drop(found, keep=5, disk_gib=8.0)) == []
    assert numbers(checkpoints_to_drop(found, keep=5, disk_gib=4.5)) == [0, 1, 2]
    assert numbers(checkpoints_to_drop(found, keep=5, disk_gib=0.1)) == [0, 1, 2, 3]


def test_a_quota_holds_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_bytes, most = 1000, [0]

    def size_of(path: Path) -> int:
        taken = len(list(path.parents[1].glob("*/*/handclip_best.pth"))) * state_bytes
        most[0] = max(most[0], taken)
        return state_bytes

    monkeypatch.setattr("tune_jobs.execution.callback.size_of", size_of)
    quota = 6.5 * state_bytes / GIB
    swept = settings(tmp_path, trials=12, keep_checkpoints=8, limits={"disk_gib": quota}, early_stopping=NO_STOPPING)
    ready = run(swept, rising, trial_resources=replace(ROOM, concurrent=2))
    assert ready.searcher.ended_by is None
    assert len(ready.all_trials.all()) == 12
    assert 3 * state_bytes < most[0] <= quota * GIB
    assert ready.all_trials.winner is not None


def test_weights_of_good_trials_go_before_a_quota_cuts_a_trial_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.execution.callback.size_of", lambda _: 1000)
    swept = settings(tmp_path, trials=12, limits={"disk_gib": 5500 / GIB}, early_stopping=NO_STOPPING)
    run(swept.model_copy(update={"trials": 6, "keep_checkpoints": 3}))
    ready = run(swept, trial_resources=replace(ROOM, concurrent=2))
    assert ready.searcher.ended_by is None
    assert {view.status for view in ready.all_trials.all()} == {Status.COMPLETE}


def test_a_quota_without_room_for_one_more_state_ends_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.execution.callback.size_of", lambda _: 1000)
    swept = settings(tmp_path, trials=12, limits={"disk_gib": 1500 / GIB})
    ready = run(swept)
    assert ready.searcher.ended_by is not None
    assert ready.searcher.ended_by.startswith("limits.disk_gib: ")
    assert len(ready.all_trials.all()) == 1


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Limits(hours=0)


def test_a_sweep_whose_last_trial_fits_in_is_not_said_to_have_been_ended(tmp_path: Path) -> None:
    hours = run(limited(tmp_path / "free")).all_trials.usage.hours
    ready = run(limited(tmp_path / "just", hours=hours + 1 / 3600))
    assert {view.status for view in ready.all_trials.all()} == {Status.COMPLETE}
    assert len(ready.all_trials.all()) == 27
    assert ready.searcher.ended_by is None


def test_no_trial_is_begun_once_a_slow_one_was_cut_short(tmp_path: Path) -> None:
    def slow_full(experiment: Experiment, unit: int) -> Step:
        step = rising(experiment, unit)
        return replace(step, seconds=900.0 if experiment.strategy.name == "full" else 1.0)

    ready = run(limited(tmp_path, hours=0.6), slow_full)
    statuses = {view.number: view.status for view in ready.all_trials.all()}
    assert statuses == {0: Status.COMPLETE, 1: Status.INTERRUPTED}
    assert ready.searcher.ended_by == "limits.hours: 0.6"
