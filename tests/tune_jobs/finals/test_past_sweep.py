from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, LinearProbe, ZeroShot
from tests.tune_jobs.finals.conftest import AT, SweepFolder, full
from tests.tune_jobs.simulated import run, settings
from tune_jobs.finals.past_sweep import Searched, read_sweep
from tune_jobs.reporting.summary import regret_lines
from tune_jobs.state.events import Begun, Mixed, Mixture
from tune_jobs.state.journal import FILE, TIP
from tune_jobs.storage.location import BucketLocation


def test_trials_come_best_first_with_their_settings(sweep_folder: SweepFolder) -> None:
    past = read_sweep(sweep_folder())
    assert [(one.number, one.score) for one in past.tried] == [(2, 0.7), (3, 0.6), (1, 0.52), (0, 0.5)]
    assert past.tried[0].experiment.strategy == full(1e-3)
    assert past.arms == ("zero_shot", "linear_probe", "full")
    assert past.searched == {
        "zero_shot": Searched(1, 2, 36),
        "linear_probe": Searched(1, 2, 36),
        "full": Searched(2, 4, 72),
    }


def test_failed_trials_and_mixtures_are_no_candidates_but_cost_time(sweep_folder: SweepFolder) -> None:
    soup = Mixture(name="full", status="uniform soup of 1 and 2", metrics={"map": 0.9})
    trials = [(ZeroShot(), 0.5), (Full(), None), (LinearProbe(), 0.6)]
    past = read_sweep(sweep_folder(trials, more=[Mixed(at=AT, mixtures=(soup,))]))
    assert [one.number for one in past.tried] == [2, 0]
    assert past.searched["full"] == Searched(0, 0, 36)


def test_an_interrupted_sweep_is_read_as_far_as_it_came(sweep_folder: SweepFolder) -> None:
    waiting = Begun(at=AT, trial=4, params={}, experiment=Experiment(strategy=Full()))
    past = read_sweep(sweep_folder(ended=False, more=[waiting]))
    assert [one.number for one in past.tried] == [2, 3, 1, 0]


def test_what_is_no_sweep_is_refused_with_the_sweeps_that_there_are(sweep_folder: SweepFolder, tmp_path: Path) -> None:
    storage = sweep_folder().parent
    with pytest.raises(InputError, match=r"tinny: no sweep of this name; there are tiny$"):
        read_sweep(storage / "tinny")
    with pytest.raises(InputError, match="there are no sweeps; give their folder as --storage"):
        read_sweep(tmp_path / "elsewhere" / "tiny")


def test_a_sweep_without_a_score_is_refused(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder([(ZeroShot(), None), (Full(), None)])
    with pytest.raises(InputError, match="no trial has a score yet"):
        read_sweep(folder)
    for file in (FILE, TIP):
        (folder / file).unlink()
    with pytest.raises(InputError, match="no trial has a score yet"):
        read_sweep(folder)


def test_a_damaged_journal_is_refused_by_name(sweep_folder: SweepFolder) -> None:
    folder = sweep_folder()
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises(InputError, match=rf"{folder / FILE}"):
        read_sweep(folder)


def test_a_sweep_in_a_bucket_is_read_from_there(sweep_folder: SweepFolder, bucket: BucketLocation) -> None:
    folder = sweep_folder()
    (bucket / "tiny" / "sweep.yaml").write((folder / "sweep.yaml").read_bytes())
    (bucket / "tiny" / "journal/000000.jsonl").write((folder / FILE).read_bytes())
    past, here = read_sweep(bucket / "tiny"), read_sweep(folder)
    assert (past.where, past.tried, past.searched) == (bucket / "tiny", here.tried, here.searched)
    with pytest.raises(InputError, match=r"/tinny.*: no sweep of this name"):
        read_sweep(bucket / "tinny")


def test_what_early_stopping_did_in_the_sweep_is_told(tmp_path: Path) -> None:
    swept = settings(tmp_path, trials=30)
    ready = run(swept)
    past = read_sweep(tmp_path / "simulated")
    assert past.stopping == tuple(regret_lines(ready.all_trials, swept))
    assert "early stopping ended" in past.stopping[0]
