"""A sweep as a folder that can be read, wherever it is kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.made_up import opened
from tests.tune_jobs.simulated import run, settings
from tune_jobs.config.settings import SweepSettings
from tune_jobs.state.events import Closed, Created
from tune_jobs.state.journal import FILE, Journal, joined, read_journal, write_journal
from tune_jobs.state.local_copy import download, last_settings, readable_folder
from tune_jobs.storage.lease import LOCK, SweepLease
from tune_jobs.storage.location import BucketLocation, folder_of
from tune_jobs.storage.segments import JournalSegments, read_segments


def small(bucket: BucketLocation) -> SweepSettings:
    return settings(bucket, strategies=("linear_probe", "adapters"), trials=2, budget=2)


def test_a_folder_is_read_where_it_is(tmp_path: Path) -> None:
    assert download(tmp_path) == readable_folder(tmp_path) == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_the_last_drivers_settings_count(tmp_path: Path) -> None:
    assert last_settings(tmp_path) is None, "there is no journal yet"
    with Journal(tmp_path / FILE) as journal:
        journal.append(Created(at=0.0, sweep="a"))
        assert last_settings(tmp_path) is None, "no driver has begun"
        for trials in (3, 5):
            journal.append(opened(settings={"trials": trials}))
        journal.append(Closed(at=9.0))
    assert last_settings(tmp_path) == {"trials": 5}
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes().replace(b"5", b"6", 1))
    with pytest.raises(InputError):
        last_settings(tmp_path)


def test_settings_in_a_bucket_are_read_without_a_copy_of_the_sweep(tmp_path: Path, nodes: Iterator[int]) -> None:
    sweep = BucketLocation(f"file://{tmp_path}/bucket") / "simulated"
    for trials in (3, 5):  # by a driver each
        path = tmp_path / f"driver-{trials}" / FILE
        path.parent.mkdir()
        write_journal(path, joined(read_segments(sweep)))
        with Journal(path, JournalSegments(sweep)) as journal:
            if trials == 3:
                journal.append(Created(at=0.0, sweep="a"))
            journal.append(opened(settings={"trials": trials}))
    next(nodes)
    assert last_settings(sweep) == {"trials": 5}
    assert not folder_of(sweep).exists()


def test_a_local_copy_has_a_journal_that_can_be_read_and_is_refused_if_it_was_cut(
    bucket: BucketLocation, nodes: Iterator[int]
) -> None:
    run(small(bucket))
    sweep = bucket / "simulated"
    events = read_journal(folder_of(sweep) / FILE)
    next(nodes)
    copy = download(sweep) / FILE
    assert read_journal(copy) == events
    copy.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=f"line {len(events)} and what follows is missing"):
        read_journal(copy)


def test_a_sweep_that_runs_here_is_read_where_it_is(bucket: BucketLocation, nodes: Iterator[int]) -> None:
    run(small(bucket))
    sweep = bucket / "simulated"
    folder = folder_of(sweep)
    with SweepLease(sweep, heartbeat_s=0.01):
        (folder / "leaderboard.csv").write_text("newer")
        assert readable_folder(sweep) == folder
        assert (folder / "leaderboard.csv").read_text() == "newer"
    assert (readable_folder(sweep) / "leaderboard.csv").read_text() != "newer"
    next(nodes)
    assert {path.name for path in readable_folder(sweep).iterdir()} >= {LOCK, FILE, "study.db", "sweep.yaml"}
