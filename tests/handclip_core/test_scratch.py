"""Temporary folders of killed processes go at the next start; those of others, and of the living, stay."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from handclip_core.scratch import LOCK, PREFIX, claim, remove_left, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from handclip_core.scratch import claim, scratch_folder
claim(Path(sys.argv[1]))
with scratch_folder() as folder:
    (folder / "weights").write_bytes(b"0" * 1000)
    print(folder.parent, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_empty_and_goes_with_its_block(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        remove_left()
        assert folder.is_dir(), "its owner lives"
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_goes_and_nothing_else(temporary: Path) -> None:
    session, others, foreign = temporary / "session_1", temporary / "session_2", temporary / f"{PREFIX}somebody"
    for folder in (session, others, foreign):
        folder.mkdir()
        (folder / "log").write_text("")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(session)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        scratch = Path(owner.stdout.readline().strip())
        remove_left([session, others])
        assert (scratch / "files" / "weights").exists()
        assert session.is_dir()
        owner.send_signal(signal.SIGKILL)
    remove_left([session, others])
    assert sorted(temporary.iterdir()) == sorted([others, foreign])


def test_a_folder_whose_owner_has_not_come_to_lock_it_is_left_alone(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = temporary / f"{PREFIX}mine"
    mine.mkdir()
    acquire = FileLock.acquire

    def looked_at_before(lock: FileLock, *args: Any, **kwargs: Any) -> Any:
        if lock.lock_file == str(mine / f"{LOCK}.new"):
            (mine / f"{LOCK}.new").touch()
            remove_left()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", looked_at_before)
    claim(mine)
    remove_left()
    assert [path.name for path in mine.iterdir()] == [LOCK]


def test_a_link_to_a_folder_is_not_followed(temporary: Path) -> None:
    folder, link = temporary / "kept", temporary / f"{PREFIX}link"
    folder.mkdir()
    (folder / LOCK).touch()
    link.symlink_to(folder)
    remove_left()
    assert folder.is_dir()


def test_a_folder_can_be_claimed_for_as_long_as_the_process_lives(temporary: Path) -> None:
    folder = temporary / f"{PREFIX}mine"
    folder.mkdir()
    claim(folder)
    remove_left()
    assert folder.is_dir()
