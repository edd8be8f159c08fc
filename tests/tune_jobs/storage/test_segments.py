from pathlib import Path

import pytest

from handclip_core.errors import InputError
from tune_jobs.storage import segments
from tune_jobs.storage.location import BucketLocation, files_below
from tune_jobs.storage.segments import JournalSegments, read_segments


@pytest.fixture
def sweep(tmp_path: Path) -> BucketLocation:
    return BucketLocation(f"file://{tmp_path}/sweep")


def whole(sweep: BucketLocation) -> bytes:
    """All that was written, part by part."""
    return b"".join(read_segments(sweep))


def test_lines_of_all_drivers_come_back_in_order(sweep: BucketLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 30)
    lines = [b"line %d\n" % number for number in range(30)]
    for driver in range(3):
        journal = JournalSegments(sweep)
        for line in lines[10 * driver : 10 * (driver + 1)]:
            journal.add(line)
            assert whole(sweep).endswith(line), "it is there at once"
    assert whole(sweep) == b"".join(lines)
    assert len(files_below(sweep / "journal")) == 8


def test_no_journal_has_no_lines(sweep: BucketLocation) -> None:
    assert read_segments(sweep) == []


def test_a_line_that_could_not_be_written_is_written_once(
    sweep: BucketLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, outcomes = BucketLocation.write, iter(["before", "after", ""])

    def unsure(self: BucketLocation, data: bytes) -> None:
        match next(outcomes, ""):
            case "before":
                raise OSError("away")
            case "after":
                write(self, data)
                raise OSError("no answer")
        write(self, data)

    journal = JournalSegments(sweep)
    monkeypatch.setattr(BucketLocation, "write", unsure)
    for _ in range(2):
        with pytest.raises(OSError, match=r"away|no answer"):
            journal.add(b"one\n")
    journal.add(b"one\n")
    journal.add(b"two\n")
    assert whole(sweep) == b"one\ntwo\n"


def test_a_driver_that_was_taken_for_dead_overwrites_nothing(sweep: BucketLocation) -> None:
    first, second = JournalSegments(sweep), JournalSegments(sweep)
    first.add(b"1\n")
    second.add(b"2\n")
    first.add(b"3\n")
    assert sorted(whole(sweep).split()) == [b"1", b"2", b"3"]


def test_a_missing_part_is_told(sweep: BucketLocation) -> None:
    for name in ("000000", "000002"):
        (sweep / f"journal/{name}.jsonl").write(b"line\n")
    with pytest.raises(InputError, match=r"/journal: its parts are not numbered from 0 on \(000000.jsonl, 0"):
        read_segments(sweep)
