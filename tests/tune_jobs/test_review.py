import sys
from pathlib import Path
from typing import Any

import pytest

from handclip_core.experiment import Experiment
from handclip_core.strategies import ZeroShot
from tune_jobs.records import Records, Status, TrialRecord
from tune_jobs.review import show_outcome, shown


def sweep(*known: dict[str, Any]) -> Records:
    experiment = Experiment(strategy=ZeroShot())
    return Records(
        {str(n): TrialRecord(n, item.pop("strategy"), {}, experiment, **item) for n, item in enumerate(known)}
    )


def said(records: Records, capsys: pytest.CaptureFixture[str], *, interrupted: bool = False) -> str:
    show_outcome(records, folder=Path.cwd() / "runs" / "my sweep", budget=8, interrupted=interrupted)
    return capsys.readouterr().out


def test_the_end_compares_winner_and_baseline_and_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    records = sweep(
        {"strategy": "zero_shot", "status": Status.COMPLETE, "map": 0.5, "cmc1": 0.4, "checkpoint": "a"},
        {"strategy": "full", "status": Status.COMPLETE, "map": 0.75, "cmc1": 0.6, "checkpoint": "b"},
        {"strategy": "adapters", "status": Status.FAILED, "reason": "DivergedError: at step 3"},
    )
    text = said(records, capsys)
    assert "zero-shot  validation mAP 0.5000  rank-1 0.4000  trial 0 zero_shot" in text
    assert "winner     validation mAP 0.7500  rank-1 0.6000  trial 1 full  +0.2500" in text
    assert "trial 2 adapters failed: DivergedError: at step 3\nevery trial of adapters failed\n" in text
    assert "saved in runs/my sweep" in text
    assert f"{shown(Path(sys.executable))} -m handclip_core evaluate 'runs/my sweep'/best --split val" in text


def test_a_sweep_that_the_baseline_wins_says_so_without_a_gain(capsys: pytest.CaptureFixture[str]) -> None:
    records = sweep({"strategy": "zero_shot", "status": Status.COMPLETE, "map": 0.5, "cmc1": 0.4, "checkpoint": "a"})
    assert "winner     validation mAP 0.5000  rank-1 0.4000  trial 0 zero_shot\n" in said(records, capsys)


def test_a_sweep_without_any_result_gives_reasons_and_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    records = sweep({"strategy": "full", "status": Status.FAILED, "reason": "RuntimeError: lost"})
    text = said(records, capsys)
    assert "trial 0 full failed: RuntimeError: lost\nevery trial of full failed\n" in text
    assert "no trial has ended with a score" in text
    assert "evaluate" not in text


def test_an_interrupted_sweep_says_so_and_no_running_trial_wins(capsys: pytest.CaptureFixture[str]) -> None:
    records = sweep(
        {"strategy": "zero_shot", "status": Status.COMPLETE, "map": 0.5, "cmc1": 0.4, "checkpoint": "a"},
        {"strategy": "full", "status": Status.INTERRUPTED, "map": 0.9, "cmc1": 0.9, "checkpoint": "b"},
    )
    text = said(records, capsys, interrupted=True)
    assert text.startswith("\ninterrupted: ")
    assert "winner     validation mAP 0.5000" in text
