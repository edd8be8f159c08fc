"""Simulated sweeps in a bucket: what is in it whenever a driver dies, and what the next one makes of that."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.dying import Fuse, Killed, run_to_the_end
from tests.tune_jobs.simulated import begun, run, settings, state_of
from tune_jobs.config.settings import SweepSettings
from tune_jobs.state.journal import FILE, joined
from tune_jobs.state.local_copy import download
from tune_jobs.storage import location as places
from tune_jobs.storage import retry as patience
from tune_jobs.storage.location import BucketLocation, StorageLocation, files_below, folder_of
from tune_jobs.storage.segments import read_segments
from tune_jobs.storage.sync import FolderSync, is_copied


def small(storage: StorageLocation, **changed: Any) -> SweepSettings:
    return settings(storage, strategies=("linear_probe", "adapters"), trials=6, budget=4, **changed)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = tmp_path_factory.mktemp("undisturbed")
    run(small(storage))
    return state_of(storage / "simulated")


def test_a_sweep_in_a_bucket_is_that_in_a_folder(
    bucket: BucketLocation, undisturbed: dict[str, Any], nodes: Iterator[int]
) -> None:
    run(small(bucket))
    sweep = bucket / "simulated"
    assert state_of(sweep) == undisturbed
    assert joined(read_segments(sweep)) == (folder_of(sweep) / FILE).read_bytes()
    next(nodes)
    download(sweep)
    assert state_of(sweep) == undisturbed, "all of it is in the bucket"


@pytest.mark.parametrize("seed", [0, *(pytest.param(other, marks=pytest.mark.faults) for other in (1, 2))])
def test_drivers_that_die_on_one_machine_after_another_end_with_the_same_sweep(
    fuse: Fuse, undisturbed: dict[str, Any], tmp_path: Path, nodes: Iterator[int], seed: int
) -> None:
    storage, random_numbers = BucketLocation(f"file://{tmp_path}/bucket"), random.Random(seed)
    lengths = (random_numbers.randint(15, 80) for _ in nodes)
    assert run_to_the_end(small(storage), fuse, lengths) >= 5
    assert state_of(storage / "simulated") == undisturbed
    assert begun(folder_of(storage / "simulated")) == list(range(6))


def test_a_working_copy_that_is_ahead_of_the_bucket_does_not_count(
    bucket: BucketLocation, undisturbed: dict[str, Any], fuse: Fuse, nodes: Iterator[int]
) -> None:
    del nodes
    fuse.length = 150
    with pytest.raises(Killed):
        run(small(bucket))
    folder = folder_of(bucket / "simulated")
    with (folder / FILE).open("a") as file:
        file.write("a line that never got into the bucket\n")
    (folder / "study.db").unlink()
    fuse.length = float("inf")
    run(small(bucket))
    assert state_of(bucket / "simulated") == undisturbed


def test_what_the_search_has_learned_elsewhere_is_known_on_another_machine(
    bucket: BucketLocation, fuse: Fuse, nodes: Iterator[int]
) -> None:
    run(small(bucket, name="first"))
    learning = small(bucket, name="second", warm_start=bucket / "first", seed=1)
    run(learning.model_copy(update={"name": "whole"}))
    whole = state_of(bucket / "whole")["trials"]
    fuse.burnt, fuse.length = 0, 150
    with pytest.raises(Killed):
        run(learning)
    fuse.length = float("inf")
    next(nodes)
    run(learning)
    assert state_of(bucket / "second")["trials"] == whole


def test_what_has_changed_is_copied_and_a_database_as_it_is_at_one_moment(
    bucket: BucketLocation, tmp_path: Path
) -> None:
    sync = FolderSync(tmp_path, bucket)
    (tmp_path / "leaderboard.csv").write_text("one")
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("create table trials (number)")
        database.commit()
        database.execute("insert into trials values (1)")
        sync.send()
        database.commit()
    copy = tmp_path / "copy"
    copy.write_bytes((bucket / "study.db").read() or b"")
    with sqlite3.connect(copy) as found:
        assert found.execute("select count(*) from trials").fetchone() == (0,), "what was not finished is not in it"
    (tmp_path / "leaderboard.csv").write_text("two")
    sync.send()
    assert (bucket / "leaderboard.csv").read() == b"two"


@pytest.mark.parametrize(
    ("path", "copied"),
    [
        ("sweep.yaml", True),
        ("study.db", True),
        ("study.db-journal", False),
        ("tensorboard/0001-full/events.out.tfevents.1", True),
        ("trials/0001-full/config.json", True),
        ("trials/0001-full/error.txt", True),
        ("trials/0001-full/checkpoint_000001/handclip_best.pth", False),
        ("trials/searcher-state-2026.pkl", False),
        ("trials/experiment_state-2026.json", False),
        ("journal.jsonl", False),
        ("journal.tip", False),
        ("journal/000000.jsonl", False),
        ("driver.json", False),
        ("driver.lock", False),
        ("leaderboard.csv.partial", False),
    ],
)
def test_these_files_are_copied(path: str, copied: bool) -> None:
    assert is_copied(path) == copied


def test_a_bucket_that_is_away_for_a_while_is_waited_for(
    undisturbed: dict[str, Any], tmp_path: Path, nodes: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    del nodes
    storage, failures = (
        BucketLocation(f"file://{tmp_path}/bucket"),
        iter([False] * 20 + [True] * 3 + [False] * 10 + [True] * 5),
    )
    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", lambda _: None)
    monkeypatch.setattr(places, "open_location", failing(places.open_location, failures))
    run(small(storage))
    assert next(failures, None) is None, "it was away"
    assert state_of(storage / "simulated") == undisturbed


def failing(opened: Any, failures: Iterator[bool]) -> Any:
    def maybe(where: StorageLocation) -> Any:
        if next(failures, False):
            raise OSError("AWS Error NETWORK_CONNECTION during PutObject operation")
        return opened(where)

    return maybe


def test_a_bucket_that_stays_away_ends_the_sweep_with_whole_lines(
    tmp_path: Path, nodes: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    del nodes
    storage = BucketLocation(f"file://{tmp_path}/bucket")
    write, lines = BucketLocation.write, iter(range(30))

    def full(self: BucketLocation, data: bytes) -> None:
        if self.parent.name == "journal" and next(lines, None) is None:
            raise OSError("the bucket is gone")
        write(self, data)

    monkeypatch.setattr(patience, "RETRY_FOR_S", 0.0)
    monkeypatch.setattr(BucketLocation, "write", full)
    with pytest.raises(InputError, match=r"/journal: cannot be written \(the bucket is gone\); mend that"):
        run(small(storage))
    assert len(joined(read_segments(storage / "simulated")).splitlines()) == 30
    assert "journal/000000.jsonl" in files_below(storage / "simulated")
