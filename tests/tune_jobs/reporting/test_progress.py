from typing import Any

import pytest
from rich.console import Console

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tests.tune_jobs.made_up import metrics
from tune_jobs.reporting import progress as live
from tune_jobs.reporting.progress import ProgressLog, ProgressTable, clock
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials


def sweep(count: int, **known: Any) -> Trials:
    experiment = Experiment(strategy=ZeroShot())
    kinds = [Status.COMPLETE, Status.STOPPED, Status.FAILED, Status.RUNNING]
    return Trials(
        {
            n: TrialView(
                n,
                "sequential_ewc",
                {},
                experiment,
                status=kinds[n % 4],
                unit=3,
                metrics=metrics(n / 100, cmc1=0.5),
                **known,
            )
            for n in range(count)
        }
    )


@pytest.mark.parametrize("count", [0, 1, 14, 60])
def test_the_live_table_never_exceeds_twenty_lines_of_a_small_terminal(count: int) -> None:
    all_trials = sweep(count, reason="RuntimeError: " + "x" * 200, seconds=3725)
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    table = ProgressTable(all_trials=all_trials, num_trials=max(count, 1), budget=8, console=console)
    with console.capture() as captured:
        console.print(table.render())
    lines = captured.get().splitlines()
    assert 2 <= len(lines) <= 20
    assert all(len(line) <= 80 for line in lines)
    if count == 60:
        assert sum("running" in line for line in lines) == 14
        assert "30 of 60" not in lines[0]
        assert "45 of 60 trials" in lines[0]


def test_the_table_shows_every_column_beside_a_long_reason() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(live.trial_table(sweep(3, reason="y" * 300), budget=8, rows=5))
    text = captured.get()
    assert "sequential_ewc" in text
    assert "0.0100" in text
    assert "3/8" in text


def test_a_log_gets_a_line_a_trial_and_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("tune_jobs.reporting.progress.time.monotonic", lambda: now[0])
    all_trials = sweep(4, reason="RuntimeError: lost", seconds=12.0)
    lines = ProgressLog(all_trials=all_trials, num_trials=9, budget=8, second_rung=6)
    for view in all_trials.all()[:3]:
        lines.ended(view)
    lines.tick()
    now[0] += 31
    lines.tick()
    lines.tick()
    assert capsys.readouterr().out.splitlines() == [
        "[0:00] 3/9  trial 0 sequential_ewc: mAP 0.0000 (12 s); best so far 0.0300 by trial 3 sequential_ewc",
        "[0:00] 3/9  trial 1 sequential_ewc: mAP 0.0100, stopped at unit 3 of 8 (12 s)"
        "; best so far 0.0300 by trial 3 sequential_ewc",
        "[0:00] 3/9  trial 2 sequential_ewc: failed: RuntimeError: lost (12 s)"
        "; best so far 0.0300 by trial 3 sequential_ewc",
        "[0:31] 3/9  running: trial 3 sequential_ewc at unit 3 of 8; best so far 0.0300 by trial 3 sequential_ewc",
    ]
    now[0] += 300
    lines.tick()
    lines.tick()
    first, *others = lines.status_lines()
    assert capsys.readouterr().out.splitlines() == [f"[5:31] {first}", *others]
    assert others[0].startswith("best sequential_ewc")
    assert others[-1] == "failed trial 2 sequential_ewc: RuntimeError: lost"


def test_before_the_first_trial_there_is_nothing_to_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("tune_jobs.reporting.progress.time.monotonic", lambda: now[0])
    lines = ProgressLog(all_trials=Trials(), num_trials=9, budget=8, second_rung=6)
    now[0] += 40
    lines.tick()
    assert capsys.readouterr().out == "[0:40] 0/9  running: no trial yet of 8\n"


def test_times_are_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0, 59.9, 60, 3725)] == ["0:00", "0:59", "1:00", "62:05"]
