"""A sweep whose driver dies again and again ends as one that was left in peace."""

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.dying import Fuse, Killed, run_to_the_end
from tests.tune_jobs.simulated import ROOM, begun, run, settings, state_of
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.events import Retried, Saved
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.storage.location import folder_of

PARTS = 7
"""Into so many the writes of a sweep are dealt out."""
OTHER_PARTS = range(2, PARTS + 1)


def small(storage: Path) -> SweepSettings:
    return settings(storage, strategies=("linear_probe", "adapters"), trials=6, budget=4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = tmp_path_factory.mktemp("undisturbed")
    run(small(storage))
    return state_of(storage / "simulated")


@pytest.mark.parametrize("seed", [0, *(pytest.param(other, marks=pytest.mark.faults) for other in range(1, 10))])
def test_drivers_killed_between_any_two_writes_end_with_the_same_sweep(
    fuse: Fuse, undisturbed: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    random_numbers = random.Random(seed)
    lengths = iter(lambda: random_numbers.randint(1, 60), None)
    deaths = run_to_the_end(small(tmp_path), fuse, lengths)
    assert deaths >= 5
    assert state_of(tmp_path / "simulated") == undisturbed
    assert begun(tmp_path / "simulated") == list(range(6))


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, *(pytest.param(other, marks=pytest.mark.faults) for other in OTHER_PARTS)])
def test_a_driver_killed_after_any_single_write_is_replaced_without_a_trace(
    fuse: Fuse, quick_folder: Path, first: int
) -> None:
    """Some of the writes in each part; the other parts are for `make test-faults`."""

    def smaller(storage: Path) -> SweepSettings:
        return small(storage).model_copy(update={"trials": 4, "budget": 3, "keep_checkpoints": 1, "seed": 4})

    run(smaller(quick_folder / "whole"))
    undisturbed, writes = state_of(quick_folder / "whole" / "simulated"), fuse.burnt
    assert {status for _, status in undisturbed["ends"]} == {"complete", "stopped"}
    assert len(undisturbed["weights"]) == 1
    assert writes > 100
    for length in range(first, writes, PARTS):
        storage = quick_folder / str(length)
        assert run_to_the_end(smaller(storage), fuse, iter([length, 10**9])) == 1
        assert state_of(storage / "simulated") == undisturbed, f"killed at write {length}"
        shutil.rmtree(storage)


@pytest.mark.spawn
def test_processes_killed_at_random_moments_end_with_the_same_sweep(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    random_numbers, killed = random.Random(0), 0
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(small(tmp_path))
                code = 0
            finally:
                os._exit(code)
        status = killed_while_it_writes(child, tmp_path / "simulated" / FILE, random_numbers)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        killed += 1
    assert killed >= 5
    assert state_of(tmp_path / "simulated") == undisturbed


def killed_while_it_writes(child: int, journal: Path, random_numbers: random.Random) -> int:
    """Kill a process a moment after it has added some lines to its journal; its exit status."""
    target = lines_of(journal) + random_numbers.randint(1, 9)
    while lines_of(journal) < target:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    time.sleep(random_numbers.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_with_several_workers_no_trial_is_lost_and_none_is_run_twice(fuse: Fuse, tmp_path: Path) -> None:
    random_numbers = random.Random(0)
    swept = settings(tmp_path, trials=8, budget=4)
    lengths = iter(lambda: random_numbers.randint(1, 60), None)
    assert run_to_the_end(swept, fuse, lengths, trial_resources=replace(ROOM, concurrent=3)) >= 5
    found = state_of(tmp_path / "simulated")
    assert begun(tmp_path / "simulated") == list(range(8))
    assert sorted(number for number, _ in found["ends"]) == list(range(8))
    ended = {number: status.upper() for number, status in found["ends"]}
    assert {t[0]: t[1].name for t in found["study"]} == {
        n: {"STOPPED": "PRUNED", "COMPLETE": "COMPLETE"}[status] for n, status in ended.items()
    }


def killed_after(fuse: Fuse, swept: SweepSettings, writes: int) -> Path:
    fuse.burnt, fuse.length = 0, writes
    with pytest.raises(Killed):
        run(swept)
    fuse.length = float("inf")
    return folder_of(swept.storage / swept.name)


def test_a_line_of_the_journal_that_cannot_be_read_is_refused_and_nothing_is_changed(
    fuse: Fuse, tmp_path: Path
) -> None:
    folder = killed_after(fuse, small(tmp_path), 150)
    lines = (folder / FILE).read_bytes().split(b"\n")
    lines[3] = lines[3][:40]
    (folder / FILE).write_bytes(b"\n".join(lines))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"journal\.jsonl: line 4 has no checksum") as refused:
        run(small(tmp_path))
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_journal_that_is_gone_is_refused_and_nothing_is_changed(what: str, fuse: Fuse, tmp_path: Path) -> None:
    folder = killed_after(fuse, small(tmp_path), 150)
    (folder / FILE).unlink()
    if what == "empty":
        (folder / FILE).touch()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"journal\.jsonl: line 1 and what follows is missing"):
        run(small(tmp_path))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["gone", "older", "damaged"])
def test_a_study_that_is_gone_or_old_or_damaged_is_written_anew(
    fuse: Fuse, undisturbed: dict[str, Any], tmp_path: Path, what: str
) -> None:
    folder = killed_after(fuse, small(tmp_path), 80)
    older = (folder / STUDY).read_bytes()
    killed_after(fuse, small(tmp_path), 60)
    match what:
        case "gone":
            (folder / STUDY).unlink()
        case "older":
            (folder / STUDY).write_bytes(older)
        case _:
            study = optuna.load_study(study_name="simulated", storage=f"sqlite:///{folder / STUDY}")
            study.add_trial(optuna.trial.create_trial(value=0.99))
    run(small(tmp_path))
    assert state_of(folder) == undisturbed


def test_the_study_of_another_sweep_is_refused(fuse: Fuse, tmp_path: Path) -> None:
    folder = killed_after(fuse, small(tmp_path), 150)
    run(small(tmp_path / "other").model_copy(update={"trials": 2}))
    (tmp_path / "other" / "simulated" / STUDY).rename(folder / STUDY)
    with pytest.raises(InputError, match=r"study\.db: has a study 'simulated' already; choose another --name"):
        run(small(tmp_path))


def test_a_trial_whose_saved_state_is_gone_starts_over(fuse: Fuse, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder = killed_after(fuse, small(tmp_path), 45)
    last = [event for event in read_journal(folder / FILE) if isinstance(event, Saved)][-1]
    shutil.rmtree(folder / last.checkpoint)
    run(small(tmp_path))
    found = state_of(folder)
    assert found["study"] == undisturbed["study"]
    (retried,) = (event for event in read_journal(folder / FILE) if isinstance(event, Retried))
    assert (retried.trial, retried.anew) == (last.trial, True)
    assert retried.reason == f"{last.checkpoint} is gone"


def test_a_finished_sweep_that_is_taken_up_again_changes_nothing(tmp_path: Path) -> None:
    run(small(tmp_path))
    before = state_of(tmp_path / "simulated")
    run(small(tmp_path))
    assert state_of(tmp_path / "simulated") == before


def test_a_sweep_that_is_extended_equals_one_that_was_longer_from_the_start(tmp_path: Path) -> None:
    run(settings(tmp_path / "grown", trials=5))
    run(settings(tmp_path / "grown", trials=9))
    run(settings(tmp_path / "long", trials=9))
    grown, long = (state_of(tmp_path / name / "simulated") for name in ("grown", "long"))
    for state in (grown, long):
        state.pop("weights")  # those of trial 3 went when it was not yet among the best
    assert grown == long


def test_a_shared_database_that_holds_the_trials_of_a_sweep_whose_folder_is_gone_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    swept = small(tmp_path / "runs")
    swept = swept.model_copy(update={"search": swept.search.model_copy(update={"storage": url})})
    run(swept)
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(InputError, match="has a study 'simulated' already"):
        run(swept)
