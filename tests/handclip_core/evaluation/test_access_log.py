import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.access_log import OPENED, SCORED, START, AccessLog, hash_of_test
from handclip_core.runs.context import ExperimentContext
from tests.limits import LIMIT_S

Damage = Callable[[list[str]], list[str]]


def three_looks(path: Path) -> AccessLog:
    access_log = AccessLog(path)
    for number, data in enumerate(("hands", "hands", "feet")):
        access_log.append(OPENED, {"data": data, "config": str(number)})
        access_log.append(SCORED, {"data": data, "map": 0.5})
    return access_log


def test_every_line_holds_the_hash_of_the_one_before(tmp_path: Path) -> None:
    access_log = three_looks(tmp_path / "looks.jsonl")
    entries = access_log.entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[0].previous == START
    assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    line = json.loads(access_log.path.read_text().splitlines()[2])
    given = line.pop("hash")
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":"))
    assert given == hashlib.sha256(canonical.encode()).hexdigest()


def test_looks_are_counted_by_data_and_those_cut_short_count(tmp_path: Path) -> None:
    access_log = three_looks(tmp_path / "looks.jsonl")
    access_log.append(OPENED, {"data": "hands"})
    assert len(access_log.accesses("hands")) == 3
    assert len(access_log.accesses("feet")) == 1
    assert AccessLog(tmp_path / "none.jsonl").accesses("hands") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [lines[0], lines[1].replace("0.5", "0.9"), *lines[2:]], "line 2: was changed after"),
        (lambda lines: lines[1:], "line 1: does not follow"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1: does not follow"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 6: not a line of an access log"),
        (lambda lines: [*lines, "[1, 2]"], "line 7: not a line of an access log"),
        (lambda lines: [*lines, lines[-1]], "line 7: does not follow"),
    ],
)
def test_a_broken_chain_is_named_and_nothing_is_added_to_it(tmp_path: Path, damage: Damage, message: str) -> None:
    access_log = three_looks(tmp_path / "looks.jsonl")
    access_log.path.write_text("".join(f"{line}\n" for line in damage(access_log.path.read_text().splitlines())))
    before = access_log.path.read_bytes()
    for use in (access_log.entries, lambda: access_log.append(OPENED, {}), lambda: access_log.accesses("hands")):
        with pytest.raises(InputError, match=message):
            use()
    assert access_log.path.read_bytes() == before


def test_lines_cut_off_the_end_show_where_a_hash_was_kept(tmp_path: Path) -> None:
    access_log = three_looks(tmp_path / "looks.jsonl")
    last = access_log.entries()[-1].hash
    access_log.require(last, source=Path("report"))
    lines = access_log.path.read_text().splitlines()
    access_log.path.write_text("".join(f"{line}\n" for line in lines[:-2]))
    assert len(access_log.entries()) == 4
    with pytest.raises(InputError, match="lacks a test access that report names"):
        access_log.require(last, source=Path("report"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "looks.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as an access log"):
        AccessLog(tmp_path / "looks.jsonl").entries()


WRITER = """
import sys
from pathlib import Path
from handclip_core.evaluation.access_log import OPENED, AccessLog
for turn in range(5):
    AccessLog(Path(sys.argv[1])).append(OPENED, {"data": "hands", "writer": sys.argv[2], "turn": turn})
"""


@pytest.mark.spawn
def test_writers_at_the_same_time_keep_the_chain_whole(tmp_path: Path) -> None:
    path = tmp_path / "looks.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)]) for number in range(3)]
    assert [writer.wait(timeout=LIMIT_S) for writer in writers] == [0, 0, 0]
    looks = AccessLog(path).accesses("hands")
    assert sorted((look.values["writer"], look.values["turn"]) for look in looks) == [
        (str(writer), turn) for writer in range(3) for turn in range(5)
    ]


def test_the_same_test_images_have_one_hash_however_they_were_cut_and_ordered(tiny_context: ExperimentContext) -> None:
    prepared = tiny_context.prepared
    shuffled = prepared.manifest.sample(frac=1, random_state=1).reset_index(drop=True)
    shuffled["subset"] = shuffled["subset"].replace({"val": "train"})
    assert hash_of_test(replace(prepared, manifest=shuffled, root=Path("/elsewhere"))) == hash_of_test(prepared)
    fewer = prepared.manifest.drop(index=prepared.manifest.index[prepared.manifest["subset"] == "test"][0])
    assert hash_of_test(replace(prepared, manifest=fewer)) != hash_of_test(prepared)


def test_accesses_from_several_places_are_counted_once_each_whatever_was_copied(tmp_path: Path) -> None:
    shared = tmp_path / "shared.jsonl"
    old = AccessLog(tmp_path / "a.jsonl")
    old.append(OPENED, {"data": "hands", "sweep": "before"})
    one, other = AccessLog(tmp_path / "a.jsonl", shared), AccessLog(tmp_path / "b.jsonl", shared)
    assert len(other.accesses("hands")) == 0
    one.append(OPENED, {"data": "hands", "sweep": "a"})
    one.append(OPENED, {"data": "feet", "sweep": "a"})
    other.append(OPENED, {"data": "hands", "sweep": "b"})
    other.append(SCORED, {"data": "hands", "sweep": "b"})
    for log in (one, other):
        assert sorted(entry.values["sweep"] for entry in log.accesses("hands")) == ["a", "b", "before"]
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    moved = AccessLog(tmp_path / "c.jsonl", shared)
    moved.append(OPENED, {"data": "hands", "sweep": "c"})
    assert [len(log.accesses("hands")) for log in (one, other, moved)] == [4, 4, 4]
    assert len(AccessLog(tmp_path / "new.jsonl", shared).accesses("feet")) == 1


def test_a_shared_log_that_was_changed_is_refused(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "a.jsonl", tmp_path / "shared.jsonl")
    for turn in range(2):
        log.append(OPENED, {"data": "hands", "turn": turn})
    (tmp_path / "shared.jsonl").write_text((tmp_path / "shared.jsonl").read_text().splitlines(keepends=True)[1])
    with pytest.raises(InputError, match=r"shared.jsonl, line 1: does not follow"):
        log.accesses("hands")


def test_a_shared_log_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = AccessLog(tmp_path / "a.jsonl", tmp_path / "file" / "shared.jsonl")
    with pytest.raises(InputError, match="set HANDCLIP_STATE to a folder that can be written"):
        log.append(OPENED, {"data": "hands"})


def test_accesses_are_in_the_order_of_their_own_time_not_of_their_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = iter(range(10, 24))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(2026, 1, 1, next(hour), tzinfo=tz)

    monkeypatch.setattr("handclip_core.evaluation.access_log.datetime", Clock)
    shared = tmp_path / "shared.jsonl"
    AccessLog(tmp_path / "a.jsonl").append(OPENED, {"data": "hands", "sweep": "first"})
    AccessLog(tmp_path / "b.jsonl", shared).append(OPENED, {"data": "hands", "sweep": "second"})
    AccessLog(tmp_path / "a.jsonl", shared).append(OPENED, {"data": "hands", "sweep": "third"})
    found = AccessLog(tmp_path / "c.jsonl", shared).accesses("hands")
    assert [entry.values["sweep"] for entry in found] == ["first", "second", "third"]
