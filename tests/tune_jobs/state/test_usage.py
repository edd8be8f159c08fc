import pytest

from tests.tune_jobs.made_up import opened, validated
from tune_jobs.state.events import Alive, Closed, Cut, Ended, Event, Retried, Started
from tune_jobs.state.usage import Usage


def used(*events: Event) -> Usage:
    usage = Usage()
    for event in events:
        usage.apply(event)
    return usage


def test_gpu_time_is_that_of_running_trials_and_hours_are_the_drivers() -> None:
    usage = used(
        opened(0, gpus=0.5),
        Started(at=10, trial=0),
        Started(at=20, trial=1),
        Ended(at=50, trial=0, status="complete"),
        Retried(at=60, trial=1, reason="lost"),
        Started(at=100, trial=1),
        Cut(at=110, trial=1),
        Closed(at=130),
    )
    assert usage.seconds == 130
    assert usage.gpu_seconds == 0.5 * ((50 - 10) + (60 - 20) + (110 - 100))
    assert (usage.hours, usage.gpu_hours) == (130 / 3600, 45 / 3600)


@pytest.mark.parametrize("end", [[Closed(at=100)], []])
def test_time_without_a_driver_does_not_count_whether_it_left_or_died(end: list[Event]) -> None:
    usage = used(opened(0, gpus=1), Started(at=0, trial=0), Alive(at=100), *end, opened(5000, gpus=2), Alive(at=5010))
    assert (usage.seconds, usage.gpu_seconds) == (110, 100)


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    assert used(opened(100, gpus=1), Alive(at=150), Alive(at=90), Alive(at=95)).seconds == 55


def test_what_is_used_by_now_includes_the_time_since_the_last_event() -> None:
    usage = used(opened(0, gpus=2), Started(at=0, trial=0), Started(at=0, trial=1))
    assert usage.until(30) == (30, 120)
    assert (usage.seconds, usage.gpu_seconds) == (0, 0)


def test_a_units_time_is_the_mean_so_far() -> None:
    usage = used(opened(0, gpus=0))
    assert usage.unit_s == 0
    usage.apply(validated(0, 1, 0.1, at=10, seconds=4.0))
    usage.apply(validated(0, 2, 0.1, at=20, seconds=8.0))
    assert usage.unit_s == 6
