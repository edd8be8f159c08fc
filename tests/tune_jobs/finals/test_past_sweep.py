from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.strategies import Full, LinearProbe, ZeroShot
from tests.tune_jobs.finals.conftest import SweepFolder, full
from tests.tune_jobs.simulated import run, settings
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.reporting.summary import look_back


def test_trials_come_best_first_with_their_settings(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder()
    past = read_sweep("tiny", folder.parent)
    assert [(one.number, one.map) for one in past.tried] == [(2, 0.7), (3, 0.6), (1, 0.52), (0, 0.5)]
    assert past.tried[0].experiment.strategy == full(1e-3)
    assert past.strategies == ("zero_shot", "linear_probe", "full")
    assert past.seconds == {"zero_shot": 36, "linear_probe": 36, "full": 72}


def test_failed_trials_and_mixtures_are_no_candidates_but_cost_time(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder([(ZeroShot(), "0.5"), (Full(), ""), (LinearProbe(), "0.6")])
    board = folder / "leaderboard.csv"
    board.write_text(board.read_text() + "1,,full,0.9,0.9,,,,uniform soup of 1 and 2\n")
    past = read_sweep("tiny", folder.parent)
    assert [one.number for one in past.tried] == [2, 0]
    assert past.seconds["full"] == 36


def test_an_interrupted_sweep_is_read_as_far_as_it_came(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder()
    board = folder / "leaderboard.csv"
    board.write_text(board.read_text().replace("complete", "interrupted") + ",4,full,,,0,0.0,,waiting\n")
    assert len(read_sweep("tiny", folder.parent).tried) == 4


def test_what_is_no_sweep_is_refused_with_the_sweeps_that_there_are(sweep_folder: SweepFolder, tmp_path: Path) -> None:
    folder = sweep_folder()
    with pytest.raises(InputError, match=r"no sweep of this name; there are tiny$"):
        read_sweep("tinny", folder.parent)
    with pytest.raises(InputError, match="there are no sweeps; give their folder as --storage"):
        read_sweep("tiny", tmp_path / "elsewhere")


def test_a_sweep_without_a_score_is_refused(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder([(ZeroShot(), ""), (Full(), "")])
    with pytest.raises(InputError, match="no trial has a score yet"):
        read_sweep("tiny", folder.parent)
    (folder / "leaderboard.csv").unlink()
    with pytest.raises(InputError, match="no such file, so no trial has a score"):
        read_sweep("tiny", folder.parent)


def test_a_file_that_is_no_leaderboard_is_named(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder()
    (folder / "leaderboard.csv").write_text("trial,score\n1,0.5\n")
    with pytest.raises(InputError, match=r"leaderboard.csv: not a leaderboard; it lacks map, seconds, status"):
        read_sweep("tiny", folder.parent)


def test_what_early_stopping_did_in_the_sweep_is_told_and_a_damaged_journal_is_no_hindrance(tmp_path: Path) -> None:
    swept = settings(tmp_path, trials=30)
    ready = run(swept)
    past = read_sweep("simulated", tmp_path)
    assert past.stopping == tuple(look_back(ready.records, swept))
    assert "early stopping ended" in past.stopping[0]
    (ready.folder / "journal.jsonl").write_text("{}\n{}\n")
    assert read_sweep("simulated", tmp_path).stopping == ()
