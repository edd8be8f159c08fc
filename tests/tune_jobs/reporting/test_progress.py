from typing import Any

import pytest
from rich.console import Console

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tests.tune_jobs.made_up import metrics
from tune_jobs.reporting import progress as live
from tune_jobs.reporting.progress import ProgressLog, ProgressTable, clock
from tune_jobs.state.events import Begun, Closed, Event, Measured, Opened, Started, Trained
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials, folded


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
    first, *others = lines.status_lines(0.0)
    assert capsys.readouterr().out.splitlines() == [f"[5:31] {first}", *others]
    assert others[0].startswith("best sequential_ewc")
    assert others[-1] == "failed trial 2 sequential_ewc: RuntimeError: lost"


def test_before_the_first_result_a_log_says_what_is_waited_for_and_how_long_once_that_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("tune_jobs.reporting.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tune_jobs.reporting.progress.time.time", lambda: 1e9 + now[0])
    trials = {n: TrialView(n, "full", {}, Experiment(strategy=ZeroShot())) for n in range(2)}
    all_trials = Trials(awaits_result=True)
    lines = ProgressLog(all_trials=all_trials, num_trials=9, budget=8, second_rung=6)

    def said(after_s: float) -> str:
        now[0] += after_s
        lines.tick()
        return capsys.readouterr().out.partition("first result of 9 trials: ")[2]

    with lines.shown():
        said_at_once = capsys.readouterr().out
    assert said_at_once == (
        "[0:00] 0/9  waiting for the first result of 9 trials: workers start, then the first units of the first "
        "trials; no estimate yet\n"
    )
    all_trials = lines.all_trials = Trials(trials, awaits_result=True)
    assert said(29) == "", "not yet half a minute"
    assert said(1) == "trial 0 full and 1 more: a worker starts; no estimate yet\n"
    trials[1].status = Status.RUNNING
    assert said(30) == "trial 1 full: the first steps; no estimate yet\n"
    trials[0].slowest_s = 41.0
    assert said(30) == "trial 1 full: the first steps; a unit of full took 41 s at most so far\n"
    all_trials.apply(Measured(at=1e9 + 91, trial=1, images=32, unit_images=128, left_s=60.0))
    measured = "trial 1 full: 32 of 128 images of unit 1; the others "
    assert said(1) == f"{measured}in about 60 s, validation not counted\n", "at once, as there is an estimate now"
    assert said(5) == ""
    assert said(25) == f"{measured}in about 30 s, validation not counted\n"
    assert said(45) == f"{measured}are due, validation not counted\n"
    all_trials.awaits_result = False
    now[0] += 31
    lines.tick()
    assert "running: trial 1 full at unit 0 of 8" in capsys.readouterr().out


def test_the_first_result_ends_the_wait_for_it_and_another_driver_waits_anew() -> None:
    opened = Opened(at=1.0, gpus=0.0, settings={})
    begun = Begun(at=2.0, trial=0, params={}, experiment=Experiment(strategy=ZeroShot()))
    measured = Measured(at=9.0, trial=0, images=1, unit_images=2, left_s=5.0)
    unit = Trained(at=12.0, trial=0, unit=1, images=2, seconds=9.0, params_trained=1, training={})
    happened: list[Event] = [opened, begun, Started(at=3.0, trial=0), measured, unit, opened, Closed(at=20.0)]
    waits = [folded(happened[:number]).awaits_result for number in range(1, len(happened) + 1)]
    assert waits == [True, True, True, True, False, True, False]
    assert folded(happened[:4]).trials[0].measured == measured
    assert folded(happened[:5]).trials[0].measured is None


def test_what_shows_no_progress_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "LOG_EVERY_S", 0.01)
    said = ""
    with live.still("preparing the data; no estimate yet"):
        while said.count("\n") < 2:
            said += capsys.readouterr().out
    assert set(said.splitlines()) == {"[0:00] still preparing the data; no estimate yet"}


def test_times_are_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0, 59.9, 60, 3725)] == ["0:00", "0:59", "1:00", "62:05"]
