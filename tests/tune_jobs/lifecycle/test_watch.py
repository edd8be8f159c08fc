from pathlib import Path

import pytest

from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import Full, ZeroShot
from tests.tune_jobs.finals.conftest import AT, write_sweep
from tune_jobs.lifecycle.reading import read_record
from tune_jobs.lifecycle.watch import SILENT_S, is_over, lines_of, watch
from tune_jobs.state.events import Alive, Closed, Ended


def swept(folder: Path, *, ended: bool = True) -> Path:
    write_sweep(folder, ((ZeroShot(), 0.5), (Full(), 0.75), (Full(), None)), backbone=BackboneSettings(), ended=ended)
    return folder


def test_a_log_gets_progress_the_best_of_each_strategy_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(swept(tmp_path / "tiny"), every_s=1000, once=False) == 0, "it is over, so that there is no next look"
    lines = capsys.readouterr().out.splitlines()
    assert "tiny: 3 of 50 trials over" in lines[0]
    assert [line.split()[1] for line in lines if line.startswith("best ")] == ["full", "zero_shot"]
    assert "failed trial 2 full: DivergedError" in lines
    assert lines[-1] == "it has come to its end"
    assert all(len(line) <= 80 and line.isascii() for line in lines)


def test_a_sweep_that_is_silent_for_long_is_said_to_be(tmp_path: Path) -> None:
    sweep = read_record(swept(tmp_path / "tiny"))
    under_way = type(sweep)(sweep.where, sweep.folder, sweep.settings, [*sweep.events[:-1], Alive(at=AT)])
    assert not is_over(under_way)
    assert "no news for 10 min" in lines_of(under_way, now=AT + 600)[-1]
    assert not any("no news" in line for line in lines_of(under_way, now=AT + SILENT_S))
    ended = type(sweep)(sweep.where, sweep.folder, sweep.settings, [*sweep.events, Closed(at=AT, reason="interrupted")])
    assert lines_of(ended, now=AT)[-1] == "ended: interrupted"


def test_long_reasons_are_wrapped_and_nothing_is_cut(tmp_path: Path) -> None:
    sweep = read_record(swept(tmp_path / "tiny"))
    reason = "RuntimeError: " + " ".join(f"word{n}" for n in range(60))
    events = [*sweep.events[:-1], Ended(at=AT, trial=2, status="failed", reason=reason)]
    lines = lines_of(type(sweep)(sweep.where, sweep.folder, sweep.settings, events), now=AT)
    assert max(map(len, lines)) <= 80
    assert reason in " ".join(line.strip() for line in lines)
