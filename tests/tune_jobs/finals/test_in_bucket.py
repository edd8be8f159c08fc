"""Finals of a sweep in a bucket: what is brought to this machine, and what is in the bucket afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.test_access import ACCESS_LOG
from tune_jobs.finals.in_bucket import kept_in_bucket, sync_ledger
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, files_below, folder_of

HEARTBEAT_S = 0.05
STATE = "trials/0000-full/checkpoint_000000/handclip_final.pth"


@pytest.fixture
def finals(bucket: BucketLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketLocation:
    """The finals of a sweep that have been held once."""
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "cache"))
    for path in ("sweep.yaml", "leaderboard.csv", "finals/sweep.yaml", "finals/report.md", f"finals/{STATE}"):
        (bucket / f"one/{path}").write(b"old")
    (bucket / ACCESS_LOG).write(b"look 1\n")
    return bucket / "one" / "finals"


@contextmanager
def brought_here(finals: BucketLocation) -> Iterator[Path]:
    with SweepLease(finals, heartbeat_s=HEARTBEAT_S) as lease, kept_in_bucket(finals, lease):
        yield folder_of(finals)


def ledger_here(finals: BucketLocation) -> Path:
    return folder_of(finals.parent).parent / ACCESS_LOG


def test_a_sweep_in_a_folder_is_where_it_is(tmp_path: Path) -> None:
    with kept_in_bucket(tmp_path / "one" / "finals", SweepLease(tmp_path)):
        pass
    assert sync_ledger(tmp_path / "one") == tmp_path / ACCESS_LOG
    assert list(tmp_path.iterdir()) == []


def test_finals_and_ledger_come_and_go_and_the_sweep_stays_as_it_is(finals: BucketLocation) -> None:
    with brought_here(finals) as folder:
        access_log = sync_ledger(finals.parent)
        assert access_log.read_text() == "look 1\n"
        assert (folder / "report.md").read_text() == "old"
        assert not list(folder.rglob("*.pth"))
        (folder / "report.md").write_text("new")
        with access_log.open("a") as file:
            file.write("look 2\n")
        sync_ledger(finals.parent)
        assert (finals.parent.parent / ACCESS_LOG).read() == b"look 1\nlook 2\n", "a look is in the bucket at once"
    assert (finals / "report.md").read() == b"new"
    assert (finals / STATE).read() == b"old"
    assert (finals.parent / "leaderboard.csv").read() == b"old"
    assert not [path for path in files_below(finals) if path.startswith("driver.")]


def test_what_there_is_goes_into_the_bucket_however_the_finals_end(finals: BucketLocation) -> None:
    def hold() -> None:
        with brought_here(finals) as folder:
            (folder / "soups.json").write_text("complete")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert (finals / "soups.json").read() == b"complete"


def test_who_does_not_hold_the_lease_changes_nothing_in_the_bucket(finals: BucketLocation) -> None:
    with brought_here(finals) as folder:
        (folder / "report.md").write_text("half")
        with pytest.raises(InputError, match="is being run by process"), brought_here(finals):
            pass
        assert (finals / "report.md").read() == b"old"
        (finals / "report.md").write(b"another driver's")
        lease = SweepLease(finals)
        lease.lost.set()
        with kept_in_bucket(finals, lease):
            (folder / "report.md").write_text("too late")
        assert (finals / "report.md").read() == b"another driver's"


def test_finals_that_the_bucket_does_not_have_any_more_are_not_taken_for_held(finals: BucketLocation) -> None:
    with brought_here(finals) as folder:
        (folder / "sweep.yaml").write_text("settings")
    for path in files_below(finals):
        (finals / path).delete()
    with brought_here(finals) as folder:
        assert not (folder / "sweep.yaml").exists()
        assert (folder / "journal.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("here", "kept"), [("look 1\nlook 2\n", b"look 1\nlook 2\n"), ("look 7\n", b"look 1\n"), ("", b"look 1\n")]
)
def test_looks_that_a_killed_command_left_here_are_kept(finals: BucketLocation, here: str, kept: bytes) -> None:
    access_log = ledger_here(finals)
    access_log.parent.mkdir(parents=True)
    access_log.write_text(here)
    with brought_here(finals):
        pass
    assert (finals.parent.parent / ACCESS_LOG).read() == kept
    assert access_log.read_bytes() == kept


def test_looks_of_other_sweeps_that_came_meanwhile_are_kept(finals: BucketLocation) -> None:
    with brought_here(finals):
        sync_ledger(finals.parent)
        (finals.parent.parent / ACCESS_LOG).write(b"look 1\nlook of another\n")
    assert (finals.parent.parent / ACCESS_LOG).read() == b"look 1\nlook of another\n"
    assert ledger_here(finals).read_bytes() == b"look 1\nlook of another\n"
