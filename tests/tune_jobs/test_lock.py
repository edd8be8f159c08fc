import fcntl
import json
import os
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from tune_jobs.lock import OWNER, Owner, SweepLock, boot_id, read_owner

BEAT_S = 0.05
ELSEWHERE = Owner(host="elsewhere", boot="another", pid=77, token="abc")


def write_owner(folder: Path, owner: Owner) -> None:
    (folder / OWNER).write_text(json.dumps(asdict(owner)))


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        SweepLock(tmp_path),
        pytest.raises(InputError, match=f"is being run by process {os.getpid()} on "),
        SweepLock(tmp_path),
    ):
        pass
    with SweepLock(tmp_path):
        pass


def test_nothing_but_the_lock_file_is_left(tmp_path: Path) -> None:
    with SweepLock(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.boot) == (os.getpid(), boot_id())
    assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]


@pytest.mark.spawn
def test_a_driver_that_was_killed_does_not_block_the_next(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        SweepLock(tmp_path).__enter__()
        time.sleep(600)
    while read_owner(tmp_path) is None:
        time.sleep(0.01)
    with pytest.raises(InputError, match=f"by process {child} "), SweepLock(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with SweepLock(tmp_path):
        assert read_owner(tmp_path) is not None


def test_a_living_driver_on_another_machine_is_seen_by_its_heart(tmp_path: Path) -> None:
    stop = threading.Event()

    def live() -> None:
        beats = 0
        while not stop.wait(BEAT_S):
            beats += 1
            write_owner(tmp_path, replace(ELSEWHERE, beats=beats))

    write_owner(tmp_path, ELSEWHERE)
    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(InputError, match="by process 77 on elsewhere"), SweepLock(tmp_path, beat_s=BEAT_S):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_dead_driver_on_another_machine_does_not_block(tmp_path: Path) -> None:
    write_owner(tmp_path, ELSEWHERE)
    with SweepLock(tmp_path, beat_s=BEAT_S):
        assert read_owner(tmp_path) != ELSEWHERE


def test_a_driver_that_was_taken_for_dead_learns_of_it_and_leaves_the_other_alone(tmp_path: Path) -> None:
    with SweepLock(tmp_path, beat_s=BEAT_S) as lock:
        write_owner(tmp_path, ELSEWHERE)
        assert lock.lost.wait(10)
    assert read_owner(tmp_path) == ELSEWHERE


def test_where_files_cannot_be_locked_the_heart_alone_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with (
        SweepLock(tmp_path, beat_s=BEAT_S),
        pytest.raises(InputError, match="is being run by process"),
        SweepLock(tmp_path, beat_s=BEAT_S),
    ):
        pass
    write_owner(tmp_path, replace(ELSEWHERE, boot=boot_id()))
    with SweepLock(tmp_path, beat_s=BEAT_S):
        pass
