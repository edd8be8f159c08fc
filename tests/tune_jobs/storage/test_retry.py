"""Trials whose storage is away or full: what passes is waited for."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from ray.train._internal.storage import StorageContext

from tests.tune_jobs.alone import Config, Start, full, record_of
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.storage.retry import UnwritableError


def test_a_state_in_a_storage_that_is_away_is_waited_for(
    worker_config: Config, start_trial: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, storage = worker_config(full()), tmp_path / "storage"
    trial = start_trial(settings)
    trial.train()
    trial.save_checkpoint(str(storage / "trials" / "0003-full" / "checkpoint_000000"))
    again = start_trial({**settings, "checkpoint": str(storage / "trials" / "0003-full" / "checkpoint_000000")})
    storage.rename(tmp_path / "away")
    storage.touch()

    def come_back(_: float) -> None:
        storage.unlink()
        (tmp_path / "away").rename(storage)

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", come_back)
    assert again.train()["unit"] == 2


def test_a_full_disk_is_waited_for_and_the_unit_is_logged_once(
    worker_config: Config, start_trial: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start_trial(worker_config(full()))
    trial.train()
    view = record_of(trial)
    view.log[-1]["map"] = -1.0
    partial = view.folder / "handclip_best.pth.partial"
    partial.symlink_to("/dev/full")
    waits: list[float] = []

    def fit_trials(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            partial.unlink()

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", fit_trials)
    assert trial.train()["unit"] == 2
    assert len(waits) == 2
    assert [row["unit"] for row in view.log] == [1, 2]


def test_a_disk_that_stays_full_is_the_machines_failure(
    worker_config: Config, start_trial: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start_trial(worker_config(full()))
    trial.train()
    view = record_of(trial)
    view.log[-1]["map"] = -1.0
    (view.folder / "handclip_best.pth.partial").symlink_to("/dev/full")
    monkeypatch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
    with pytest.raises(UnwritableError, match="No space left on device"):
        trial.train()


@pytest.fixture
def stored(worker_config: Config, start_trial: Start, tmp_path: Path) -> HandTrial:
    """A trial that has saved its first unit in a sweep's folder, as Tune lets it, and has trained another."""
    (tmp_path / "sweep" / "trials").mkdir(parents=True)
    trial = start_trial(worker_config(full(), budget=3))
    trial._storage = StorageContext(str(tmp_path / "sweep"), "trials", trial_dir_name="0003-full")
    trial._storage._create_validation_file()
    trial.train()
    trial.save()
    trial.train()
    return trial


def saved_in(sweep: Path) -> dict[str, list[str]]:
    folders = sorted((sweep / "trials" / "0003-full").glob("checkpoint_*"))
    return {folder.name: sorted(path.name for path in folder.iterdir()) for folder in folders}


def test_a_storage_that_is_away_while_a_state_is_saved_is_waited_for(
    stored: HandTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, away = tmp_path / "sweep", tmp_path / "away"
    whole = saved_in(sweep)["checkpoint_000000"]
    sweep.rename(away)
    sweep.touch()

    def come_back(_: float) -> None:
        sweep.unlink()
        away.rename(sweep)

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", come_back)
    stored.save()
    states = saved_in(sweep)
    assert len(states) == 2
    assert all(names == whole for names in states.values())


@pytest.mark.parametrize("copied", [False, True])
def test_a_save_that_fails_leaves_the_last_state_alone_and_no_half_of_another(
    stored: HandTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    before = saved_in(tmp_path / "sweep")

    def fail(*_: Any, **given: Any) -> None:
        if copied:
            (Path(given["destination"]) / "handclip_final.pth").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if copied:
        monkeypatch.setattr("ray.train._internal.storage._pyarrow_fs_copy_files", fail)
    else:
        monkeypatch.setattr(record_of(stored), "save_checkpoint", fail)
    monkeypatch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
    with pytest.raises(UnwritableError, match="No space left"):
        stored.save()
    assert saved_in(tmp_path / "sweep") == before


@pytest.mark.parametrize("cause", ["read", "load"])
def test_a_state_that_cannot_be_read_just_now_is_not_lost(
    worker_config: Config, start_trial: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    settings, saved = worker_config(full()), tmp_path / "trials" / "0003-full" / "checkpoint_000000"
    trial = start_trial(settings)
    trial.train()
    trial.save_checkpoint(str(saved))
    again = start_trial({**settings, "checkpoint": str(saved)})
    name = "handclip_core.runs.run_folder.read_log" if cause == "read" else "torch.load"

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(name, fail)
        patch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
        with pytest.raises(UnwritableError, match="cannot be read or written"):
            again.train()
    assert again.train()["unit"] == 2
