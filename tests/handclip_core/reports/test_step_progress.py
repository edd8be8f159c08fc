"""What is shown of a run between two units."""

import sys

import pytest
import torch

from handclip_core.engine.loop import Step
from handclip_core.reports.step_progress import CLEAR, StepProgress


def step(number: int, images: int) -> Step:
    return Step("full", number, 40, images, 1280, torch.tensor(2.5), {"backbone.0": 1e-5, "head": 3e-4})


@pytest.fixture
def at() -> list[float]:
    return [0.0]


@pytest.fixture
def shown(at: list[float]) -> StepProgress:
    return StepProgress(1280, clock=lambda: at[0])


def test_in_a_log_a_line_every_thirty_seconds_with_speed_and_time_left(
    shown: StepProgress, at: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 21):
        at[0] = 4.0 * number
        shown(step(number, 32 * number))
    lines = capsys.readouterr().err.splitlines()
    # The first step sets the clock: then 32 images take 4 s, 30 s are over at 32 s, and again at 64 s.
    assert lines == [
        "  full: step 8/40  loss 2.5000  lr 0.0003  8 images/s  2:08 left",
        "  full: step 16/40  loss 2.5000  lr 0.0003  8 images/s  1:36 left",
    ]


def test_a_line_of_the_run_itself_counts_as_shown(
    shown: StepProgress, at: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown(step(1, 32))
    at[0] = 29.0
    shown.clear()
    at[0] = 40.0
    shown(step(2, 64))
    assert capsys.readouterr().err == ""


def test_of_a_run_that_is_resumed_the_images_before_count_for_no_speed(
    shown: StepProgress, at: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown(step(11, 1000))
    at[0] = 35.0
    shown(step(12, 1070))
    assert "2 images/s  1:45 left" in capsys.readouterr().err


def test_on_a_terminal_one_line_is_overwritten_and_cut_to_its_width(
    at: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    shown = StepProgress(1280, clock=lambda: at[0])
    for number in range(1, 4):
        at[0] = float(number)
        shown(step(number, 32 * number))
    shown.clear()
    first, second, end = capsys.readouterr().err.split(CLEAR)[1:]
    assert first == "  full: step 2/40  loss 2.500"
    assert second == "  full: step 3/40  loss 2.500"
    assert end == ""
