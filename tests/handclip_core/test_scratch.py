"""Temporary folders of killed processes go at the next start; those of others, and of the living, stay."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from handclip_core.scratch import LOCK, PREFIX, YOUNG_S, claim, remove_left, scratch_folder

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


def age(folder: Path) -> None:
    """Make a folder older than those that are left alone."""
    at = (folder / LOCK).stat().st_mtime - 2 * YOUNG_S
    os.utime(folder / LOCK, (at, at))


def test_it_is_empty_and_goes_with_its_block(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        age(folder.parent)
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
        for folder in (session, scratch):
            age(folder)
        remove_left([session, others])
        assert (scratch / "files" / "weights").exists()
        assert session.is_dir()
        owner.send_signal(signal.SIGKILL)
    remove_left([session, others])
    assert sorted(temporary.iterdir()) == sorted([others, foreign])


def test_a_folder_that_was_made_just_now_is_left_alone(temporary: Path) -> None:
    young = temporary / f"{PREFIX}young"
    young.mkdir()
    (young / LOCK).touch()
    remove_left()
    assert young.is_dir()
    age(young)
    remove_left()
    assert not young.exists()


def test_a_link_to_a_folder_is_not_followed(temporary: Path) -> None:
    folder, link = temporary / "kept", temporary / f"{PREFIX}link"
    folder.mkdir()
    (folder / LOCK).touch()
    age(folder)
    link.symlink_to(folder)
    remove_left()
    assert folder.is_dir()


def test_a_folder_can_be_claimed_for_as_long_as_the_process_lives(temporary: Path) -> None:
    folder = temporary / f"{PREFIX}mine"
    folder.mkdir()
    claim(folder)
    age(folder)
    remove_left()
    assert folder.is_dir()
