import sys
from pathlib import Path
from typing import Any

import pytest

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.command import app
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.summary import PROGRAMS, program, show_outcome, shown
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials

ROOT = Path(__file__).parents[3]
BASELINE: dict[str, Any] = {
    "strategy": "zero_shot", "status": Status.COMPLETE, "metrics": {"map": 0.5, "cmc1": 0.4}, "checkpoint": "a",
    "saved_unit": 0,
}  # fmt: skip


def sweep(*known: dict[str, Any]) -> Trials:
    experiment = Experiment(strategy=ZeroShot())
    return Trials({n: TrialView(n, item.pop("strategy"), {}, experiment, **item) for n, item in enumerate(known)})


def said(all_trials: Trials, capsys: pytest.CaptureFixture[str], *, reason: str = "", **settings: Any) -> str:
    swept = SweepSettings(budget=8, **settings)
    show_outcome(all_trials, folder=Path.cwd() / "runs" / "my sweep", settings=swept, reason=reason)
    return capsys.readouterr().out


def test_the_end_compares_winner_and_baseline_and_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    all_trials = sweep(
        dict(BASELINE),
        {
            "strategy": "full",
            "status": Status.COMPLETE,
            "metrics": {"map": 0.75, "cmc1": 0.6},
            "checkpoint": "b",
            "saved_unit": 0,
        },
        {"strategy": "adapters", "status": Status.FAILED, "reason": "DivergedError: at step 3"},
    )
    text = said(all_trials, capsys)
    assert "zero-shot  validation mAP 0.5000  rank-1 0.4000  trial 0 zero_shot" in text
    assert "winner     validation mAP 0.7500  rank-1 0.6000  trial 1 full  +0.2500" in text
    assert "trial 2 adapters failed: DivergedError: at step 3\nevery trial of adapters failed\n" in text
    assert "saved in runs/my sweep" in text
    assert f"{shown(Path(sys.executable))} -m handclip_core evaluate 'runs/my sweep'/best --split val" in text
    assert f"{shown(Path(sys.executable))} tune_jobs/finalists.py 'my sweep' --storage runs" in text
    assert "study.db" in text


def test_several_objectives_have_no_winner_and_a_study_elsewhere_is_not_said_to_be_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = {"objectives": ["map", "params_trained"], "storage": "postgresql://me@host/base"}
    text = said(sweep(dict(BASELINE)), capsys, search=search)
    assert "\nbest mAP   validation mAP 0.5000  rank-1 0.4000  trial 0 zero_shot\n" in text
    assert "winner     " not in text
    assert "study.db" not in text


def test_what_the_power_analysis_has_shown_is_said_again_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [{"map": score, "cmc1": 0.4} for score in (0.5, 0.52, 0.48, 0.51, 0.49)]
    all_trials = sweep(dict(BASELINE), dict(BASELINE) | {"strategy": "linear_probe", "seeds": seeds, "unit": 8})
    text = said(all_trials, capsys, search={"power_analysis": True})
    assert "linear_probe on 5 seeds: validation mAP 0.5000, sd 0.0158" in text


def test_a_sweep_that_the_baseline_wins_says_so_without_a_gain(capsys: pytest.CaptureFixture[str]) -> None:
    all_trials = sweep(dict(BASELINE))
    assert "winner     validation mAP 0.5000  rank-1 0.4000  trial 0 zero_shot\n" in said(all_trials, capsys)


def test_a_sweep_without_any_result_gives_reasons_and_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    all_trials = sweep({"strategy": "full", "status": Status.FAILED, "reason": "RuntimeError: lost"})
    text = said(all_trials, capsys)
    assert "trial 0 full failed: RuntimeError: lost\nevery trial of full failed\n" in text
    assert "no trial has ended with a score" in text
    assert "evaluate" not in text


def test_an_interrupted_sweep_says_how_to_go_on_and_what_will_be_done_again(capsys: pytest.CaptureFixture[str]) -> None:
    saved = {"checkpoint": "b", "saved_unit": 4}
    all_trials = sweep(
        dict(BASELINE),
        {
            "strategy": "full",
            "status": Status.INTERRUPTED,
            "metrics": {"map": 0.9, "cmc1": 0.9},
            "unit": 6,
            "best_unit": 6,
            **saved,
        },
        {"strategy": "full", "status": Status.INTERRUPTED, "unit": 4, **saved},
    )
    text = said(all_trials, capsys, reason="interrupted")
    assert text.startswith("\ninterrupted: what follows is the state so far\n")
    assert "winner     validation mAP 0.5000" in text
    assert "trial 1 full was at unit 6 and goes on from unit 4\nresume with\n" in text
    assert text.endswith("tune_jobs/sweep.py 'runs/my sweep' --resume\n")
    assert "next" not in text


def test_a_sweep_at_a_limit_says_which_and_what_it_has_used(capsys: pytest.CaptureFixture[str]) -> None:
    all_trials = sweep(dict(BASELINE))
    all_trials.usage.seconds, all_trials.usage.gpu_seconds = 5400.0, 9000.0
    text = said(
        all_trials, capsys, reason="limits.gpu_hours: 2.5", limits={"gpu_hours": 2.5, "price_per_gpu_hour": 3.0}
    )
    assert "used       1.50 h, 2.50 GPU-hours, cost 7.50\n" in text
    assert text.endswith("--resume --set limits.gpu_hours=...\n")


def test_trials_that_hardly_moved_by_their_second_rung_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"strategy": "full", "status": Status.STOPPED, "metrics": {"map": 0.5, "cmc1": 0.4}}
    still, early, moved = (
        {**known, "unit": 6, "curve": {2: 0.5, 4: 0.501, 6: 0.5}},
        {**known, "unit": 2, "curve": {1: 0.5, 2: 0.5}},
        {**known, "unit": 6, "curve": {2: 0.5, 4: 0.52, 6: 0.53}},
    )
    text = said(sweep(dict(BASELINE), still, early, moved), capsys)
    assert "the learning rate looks too small: trial 1 full\n" in text


def test_commands_are_files_at_the_top_of_a_clone_and_handclip_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert program("finals").endswith(" tune_jobs/finalists.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    assert program("finals") == f"bin/python {ROOT / 'tune_jobs' / 'finalists.py'}"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "handclip").write_text("")
    assert [program(name) for name in PROGRAMS] == ["bin/handclip sweep", "bin/handclip finals", "bin/handclip review"]
    names = {command.name for command in app.registered_commands}
    assert set(PROGRAMS) <= names
    assert all((ROOT / "tune_jobs" / file).is_file() for file in PROGRAMS.values())
