"""Saved states as folders: what is deleted, and what stays."""

from pathlib import Path

import pytest

from handclip_core.runs.run_folder import BEST, LOG
from tune_jobs.storage.checkpoints import drop_state, drop_weights, remove_stray_checkpoints, size_of
from tune_jobs.storage.location import BucketLocation, StorageLocation, files_below

NAMES = (BEST, "handclip_final.pth", LOG)


@pytest.fixture(params=["folder", "bucket"])
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> StorageLocation:
    """The folder of a trial with three saved states, a file and a folder that is none."""
    for number in range(3):
        state = tmp_path / "trial" / f"checkpoint_{number:06d}"
        state.mkdir(parents=True)
        for size, name in enumerate(NAMES, start=1):
            (state / name).write_bytes(b"x" * 10**size)
    (tmp_path / "trial" / "config.json").write_text("{}")
    (tmp_path / "trial" / "logs").mkdir()
    (tmp_path / "trial" / "logs" / "checkpoint_000000").write_text("a file by such a name is no state")
    return BucketLocation(f"file://{tmp_path}/trial") if request.param == "bucket" else tmp_path / "trial"


def states(trial: StorageLocation) -> list[str]:
    """The saved states that have a file left."""
    found = {path.split("/")[0] for path in files_below(trial)}
    return sorted(name for name in found if name.startswith("checkpoint_"))


def test_the_size_is_that_of_all_files_and_nothing_takes_no_room(trial: StorageLocation) -> None:
    assert size_of(trial / "checkpoint_000001") == 10 + 100 + 1000
    assert size_of(trial / "checkpoint_000009") == 0


def test_of_dropped_weights_the_log_alone_stays_and_no_other_state_loses_anything(trial: StorageLocation) -> None:
    for _ in range(2):  # a driver that died amid it does it again
        drop_weights(trial / "checkpoint_000001")
        assert files_below(trial / "checkpoint_000001") == [LOG]
    assert sorted(files_below(trial / "checkpoint_000000")) == sorted(NAMES)
    drop_weights(trial / "checkpoint_000009")


def test_a_state_that_was_replaced_goes_whole_and_may_be_gone(trial: StorageLocation) -> None:
    for _ in range(2):
        drop_state(trial / "checkpoint_000001")
        assert states(trial) == ["checkpoint_000000", "checkpoint_000002"]


def test_strays_go_and_what_is_no_state_stays(trial: StorageLocation) -> None:
    # Kept states go by their paths in the sweep's folder.
    remove_stray_checkpoints(trial, kept=["trials/0003-full/checkpoint_000001"])
    assert states(trial) == ["checkpoint_000001"]
    assert sorted(files_below(trial / "checkpoint_000001")) == sorted(NAMES)
    assert {"config.json", "logs/checkpoint_000000"} <= set(files_below(trial))
    remove_stray_checkpoints(trial, kept=())
    assert states(trial) == []
    remove_stray_checkpoints(trial / "never-begun", kept=())


def test_a_state_that_cannot_be_deleted_now_ends_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("tune_jobs.storage.checkpoints.open_location", refused)
    drop_state(tmp_path)
