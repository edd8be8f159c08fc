"""Finals of a sweep in a bucket: what is brought to this machine, and what is in the bucket afterwards."""

from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.test_access import LEDGER
from tune_jobs.execution.cluster import Node
from tune_jobs.finals.in_bucket import brought_here
from tune_jobs.storage.location import Bucket, files_below


@pytest.fixture
def sweep(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A sweep that has had finals, and a cluster of one machine."""
    monkeypatch.setenv("HANDCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tune_jobs.execution.cluster.connect", lambda: None)
    monkeypatch.setattr("tune_jobs.execution.cluster.nodes", lambda: [Node(2, 0)])
    for path in ("sweep.yaml", "leaderboard.csv", "finals/runs/a/run.json", "trials/0000-full/checkpoint_000000/x.pth"):
        (bucket / f"one/{path}").write(b"old")
    (bucket / LEDGER).write(b"look 1\n")
    return bucket / "one"


def test_a_sweep_in_a_folder_is_where_it_is(tmp_path: Path) -> None:
    with brought_here(tmp_path / "nowhere") as folder:
        assert folder == tmp_path / "nowhere"


def test_finals_and_ledger_come_and_go_and_the_sweep_stays_as_it_is(sweep: Bucket) -> None:
    with brought_here(sweep) as folder:
        found = {path.relative_to(folder.parent).as_posix() for path in folder.parent.rglob("*") if path.is_file()}
        assert found >= {LEDGER, "one/sweep.yaml", "one/leaderboard.csv", "one/finals/runs/a/run.json"}
        assert not [path for path in found if path.endswith(".pth")]
        (folder / "finals" / "report.md").write_text("new")
        (folder / "leaderboard.csv").write_text("not the finals' business")
        with (folder.parent / LEDGER).open("a") as ledger:
            ledger.write("look 2\n")
    assert (sweep / "finals/report.md").read() == b"new"
    assert (sweep / "leaderboard.csv").read() == b"old"
    assert (sweep.parent / LEDGER).read() == b"look 1\nlook 2\n"


def test_what_there_is_goes_into_the_bucket_however_the_finals_end(sweep: Bucket) -> None:
    def hold() -> None:
        with brought_here(sweep) as folder:
            (folder / "finals" / "runs" / "b.json").write_text("complete")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert (sweep / "finals/runs/b.json").read() == b"complete"


@pytest.mark.parametrize(
    ("here", "kept"), [("look 1\nlook 2\n", b"look 1\nlook 2\n"), ("look 7\n", b"look 1\n"), ("", b"look 1\n")]
)
def test_looks_that_a_killed_command_left_here_are_kept(sweep: Bucket, here: str, kept: bytes) -> None:
    with brought_here(sweep) as folder:
        pass
    (folder.parent / LEDGER).write_text(here)
    with brought_here(sweep):
        pass
    assert (sweep.parent / LEDGER).read() == kept


def test_several_machines_and_unknown_sweeps_are_refused(sweep: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"/two.*: no sweep of this name"), brought_here(sweep.parent / "two"):
        pass
    monkeypatch.setattr("tune_jobs.execution.cluster.nodes", lambda: [Node(2, 0), Node(2, 0)])
    before = files_below(sweep)
    with pytest.raises(InputError, match="finals of a sweep in a bucket run on one machine"), brought_here(sweep):
        pass
    assert files_below(sweep) == before
