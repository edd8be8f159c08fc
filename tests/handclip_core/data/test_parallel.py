"""Threads keep the order, pass errors on, and stop when told."""

import threading
import time

import pytest

from handclip_core.data.parallel import available_cores, map_files


def test_results_come_in_order() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    assert list(map_files(slow_when_even, range(50), description="", workers=4)) == [n * n for n in range(50)]


def test_the_first_error_stops_the_rest() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def fail_early(number: int) -> int:
        with lock:
            started.append(number)
        if number == 3:
            raise ValueError("three")
        time.sleep(0.005)
        return number

    with pytest.raises(ValueError, match="three"):
        list(map_files(fail_early, range(2000), description="", workers=2))
    assert len(started) < 200


def test_there_is_a_core() -> None:
    assert available_cores() >= 1
