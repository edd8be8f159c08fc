import fcntl
import json
import os
import re
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from tune_jobs.storage.lease import OWNER, Owner, SweepLease, boot_id, read_owner
from tune_jobs.storage.location import BucketLocation, StorageLocation, files_below, folder_of

HEARTBEAT_S = 0.05
ELSEWHERE = Owner(host="elsewhere", boot="another", pid=77, token="abc")


@pytest.fixture(params=["folder", "bucket"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: BucketLocation, monkeypatch: pytest.MonkeyPatch
) -> StorageLocation:
    """A sweep's folder, or its place in a bucket."""
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path if request.param == "folder" else bucket


def write_owner(where: StorageLocation, owner: Owner) -> None:
    data = json.dumps(asdict(owner)).encode()
    (where / OWNER).write_bytes(data) if isinstance(where, Path) else (where / OWNER).write(data)


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        SweepLease(tmp_path),
        pytest.raises(InputError, match=f"is being run by process {os.getpid()} on "),
        SweepLease(tmp_path),
    ):
        pass
    with SweepLease(tmp_path):
        pass


def test_nothing_but_the_lock_file_is_left(tmp_path: Path) -> None:
    with SweepLease(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.boot) == (os.getpid(), boot_id())
    assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]


@pytest.mark.spawn
def test_a_driver_that_was_killed_does_not_block_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        SweepLease(tmp_path).__enter__()
        time.sleep(600)
    while read_owner(tmp_path) is None:
        time.sleep(0.01)
    with pytest.raises(InputError, match=f"by process {child} "), SweepLease(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with SweepLease(tmp_path):
        assert read_owner(tmp_path) is not None


def test_a_living_driver_on_another_machine_is_seen_by_its_heart(anywhere: StorageLocation) -> None:
    stop = threading.Event()

    def live() -> None:
        beats = 0
        while not stop.wait(HEARTBEAT_S):
            beats += 1
            write_owner(anywhere, replace(ELSEWHERE, beats=beats))

    write_owner(anywhere, ELSEWHERE)
    thread = threading.Thread(target=live)
    thread.start()
    try:
        with (
            pytest.raises(InputError, match="by process 77 on elsewhere"),
            SweepLease(anywhere, heartbeat_s=HEARTBEAT_S),
        ):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_dead_driver_on_another_machine_does_not_block(anywhere: StorageLocation) -> None:
    write_owner(anywhere, ELSEWHERE)
    with SweepLease(anywhere, heartbeat_s=HEARTBEAT_S):
        assert read_owner(anywhere) != ELSEWHERE


def test_a_driver_that_was_taken_for_dead_learns_of_it_and_leaves_the_other_alone(anywhere: StorageLocation) -> None:
    with SweepLease(anywhere, heartbeat_s=HEARTBEAT_S) as lock:
        write_owner(anywhere, ELSEWHERE)
        assert lock.lost.wait(10)
    assert read_owner(anywhere) == ELSEWHERE


def test_where_files_cannot_be_locked_the_heart_alone_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with (
        SweepLease(tmp_path, heartbeat_s=HEARTBEAT_S),
        pytest.raises(InputError, match="is being run by process"),
        SweepLease(tmp_path, heartbeat_s=HEARTBEAT_S),
    ):
        pass
    write_owner(tmp_path, replace(ELSEWHERE, boot=boot_id()))
    with SweepLease(tmp_path, heartbeat_s=HEARTBEAT_S):
        pass


@pytest.fixture
def sweep(bucket: BucketLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketLocation:
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "here"))
    return bucket


def test_in_a_bucket_a_second_driver_is_refused_on_this_machine_and_on_another(
    sweep: BucketLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = rf"^{re.escape(str(sweep))}: is being run by process {os.getpid()} on .*; wait until that has ended"
    with SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
        with pytest.raises(InputError, match=refused), SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
            pass
        monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "elsewhere"))
        with pytest.raises(InputError, match=refused), SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
            pass
    assert files_below(sweep) == []
    with SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
        assert files_below(sweep) == [OWNER]


def test_of_two_drivers_that_begin_on_a_bucket_at_the_same_moment_one_stays(
    sweep: BucketLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writes its name after this one has looked, and before it looks again."""
    monkeypatch.setattr("tune_jobs.storage.lease.time.sleep", lambda _: write_owner(sweep, ELSEWHERE))
    with pytest.raises(InputError, match="by process 77 on elsewhere"), SweepLease(sweep):
        pass
    assert read_owner(sweep) == ELSEWHERE


@pytest.mark.spawn
def test_a_driver_on_a_bucket_that_was_killed_here_is_known_to_be_dead(sweep: BucketLocation) -> None:
    owner = Owner(host="here", boot="", pid=1, token="abc")
    with SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
        found = read_owner(sweep)
        assert found is not None
        owner = replace(found, token="abc")
    write_owner(sweep, owner)
    with SweepLease(sweep, heartbeat_s=HEARTBEAT_S) as lock:
        assert not lock.lost.is_set()
    mark = folder_of(sweep) / "driver.lock"
    mark.unlink()
    write_owner(sweep, owner)
    waits: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune_jobs.storage.lease.time.sleep", waits.append)
        with SweepLease(sweep, heartbeat_s=HEARTBEAT_S):
            pass
    assert len(waits) > 1, "another working copy of the same machine: its heart is watched"
