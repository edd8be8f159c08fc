"""Journals: lines come back as they were, and a damaged one is refused, never read as another sweep."""

from math import isnan
from pathlib import Path

import pytest

from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from tests.tune_jobs.dying import Killed
from tests.tune_jobs.made_up import metrics, opened, validated
from tune_jobs.state import journal as module
from tune_jobs.state.events import FORMAT, Alive, Begun, Closed, Created, Ended, Event, Retried, Validated
from tune_jobs.state.journal import FILE, TIP, Journal, joined, read_journal, write_journal

PARAMS = {"strategy/optim/lr": 0.1 + 0.2, "strategy/augment/flip": True, "strategy/width": 3, "strategy/x": None}
EVENTS: list[Event] = [
    Created(at=1.0, sweep="made-up"),
    opened(1.5, gpus=0.5, settings={"budget": 7}),
    Begun(at=2.0, trial=0, params=PARAMS, experiment=Experiment(strategy=Full(), budget=7)),
    Retried(at=3.0, trial=0, reason='said "no"\nand more', micro_batch=4),
    Ended(at=4.0, trial=0, status="failed", reason="ünlucky"),
    Closed(at=5.0, reason="interrupted"),
]


def write(path: Path, events: list[Event]) -> None:
    with Journal(path) as journal:
        for event in events:
            journal.append(event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with all of ``EVENTS``."""
    write(tmp_path / FILE, EVENTS)
    return tmp_path / FILE


def test_events_come_back_as_they_were(path: Path) -> None:
    found = read_journal(path)
    assert found == EVENTS
    assert isinstance(found[2], Begun)
    assert [(value, type(value)) for value in found[2].params.values()] == [
        (value, type(value)) for value in PARAMS.values()
    ]


def test_an_experiment_on_prepared_data_comes_back(tmp_path: Path) -> None:
    prepared = PreparedData(source="prepared", folder=Path("/data/prepared"))
    begun = Begun(at=2.0, trial=0, params={}, experiment=Experiment(strategy=Full(), data=prepared))
    write(tmp_path / FILE, [EVENTS[0], begun])
    assert read_journal(tmp_path / FILE) == [EVENTS[0], begun]


def test_a_score_that_is_not_a_number_comes_back_as_one(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    event = validated(0, 1, 0.1, metrics={"map": nan, "cmc1": inf}, best=metrics(nan), training={"loss": nan})
    write(tmp_path / FILE, [EVENTS[0], EVENTS[2], event])
    *_, found = read_journal(tmp_path / FILE)
    assert isinstance(found, Validated)
    assert isnan(found.best["map"])
    assert isnan(found.metrics["map"])
    assert isnan(found.training["loss"])
    assert found.metrics["cmc1"] == inf


def test_no_file_is_no_event(tmp_path: Path) -> None:
    assert read_journal(tmp_path / FILE) == []


def test_the_first_line_is_the_format(path: Path) -> None:
    assert f'"format":{FORMAT}' in path.read_text().splitlines()[0]


@pytest.mark.parametrize("torn", [b"{", b'{"at":9.0,"event":"alive"}', b"\0" * 512])
def test_a_line_without_an_end_has_never_happened_and_the_next_one_is_whole(path: Path, torn: bytes) -> None:
    with path.open("ab") as file:
        file.write(torn)
    assert read_journal(path) == EVENTS
    write(path, [Alive(at=10.0)])
    assert read_journal(path) == [*EVENTS, Alive(at=10.0)]


@pytest.mark.parametrize("line", [b"", b"{}", b'{"event":"alive"}', b'{"at":1,"event":"won"}', b"\xff"])
def test_a_line_that_cannot_be_read_is_named_though_its_checksum_is_right(tmp_path: Path, line: bytes) -> None:
    bodies = [event.model_dump_json().encode() for event in EVENTS]
    bodies[2] = line
    write_journal(tmp_path / FILE, sealed(bodies))
    with pytest.raises(InputError, match=r"journal\.jsonl: line 3 (is not readable|has no checksum|was changed)"):
        read_journal(tmp_path / FILE)


def test_an_event_of_a_trial_that_never_began_is_refused(tmp_path: Path) -> None:
    write(tmp_path / FILE, [event for event in EVENTS if not isinstance(event, Begun)])
    with pytest.raises(InputError, match=r"journal\.jsonl: line 3 is about trial 0, whose beginning is missing"):
        read_journal(tmp_path / FILE)


def sealed(bodies: list[bytes]) -> bytes:
    """Lines with their checksums."""
    check, lines = 0, b""
    for body in bodies:
        check, line = module._sealed(body, check)
        lines += line
    return lines


@pytest.mark.parametrize("number", [1, 3, 12])
def test_another_format_is_refused_with_the_mend_and_never_guessed_at(tmp_path: Path, number: int) -> None:
    first = b'{"at":1.0,"event":"created","format":%d,"sweep":"s","new":1}' % number
    write_journal(tmp_path / FILE, sealed([first, EVENTS[1].model_dump_json().encode()]))
    with pytest.raises(InputError) as refused:
        read_journal(tmp_path / FILE)
    assert str(refused.value) == (
        f"{tmp_path / FILE}: has format {number}, this version of handclip-search reads format {FORMAT}; "
        "go on with the version that began the sweep, or begin another sweep"
    )


def test_the_format_before_which_had_no_checksums_is_told_by_its_number(tmp_path: Path) -> None:
    lines = [b'{"at":1.0,"event":"opened","gpus":0.0}', b'{"at":2.0,"event":"alive"}', b""]
    (tmp_path / FILE).write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"journal\.jsonl: has format 1, this version .* go on with the version"):
        read_journal(tmp_path / FILE)
    with pytest.raises(InputError, match="has format 1"):
        Journal(tmp_path / FILE)


def test_a_journal_without_a_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / FILE, EVENTS[1:])
    with pytest.raises(InputError, match="line 1 is not in its place"):
        read_journal(tmp_path / FILE)


@pytest.mark.parametrize("tip", [None, b"", b"\0" * 22])
def test_a_driver_that_died_after_its_first_line_had_left_no_note(path: Path, tip: bytes | None) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    path.with_name(TIP).unlink()
    if tip is not None:
        path.with_name(TIP).write_bytes(tip)
    assert read_journal(path) == EVENTS[:1]
    write(path, EVENTS[1:])
    assert read_journal(path) == EVENTS


@pytest.mark.parametrize("tip", [b"7", b"000000000003 ffff\n", b"a note\n"])
def test_a_note_that_cannot_be_read_is_refused(path: Path, tip: bytes) -> None:
    path.with_name(TIP).write_bytes(tip)
    with pytest.raises(InputError, match=r"journal\.jsonl: journal\.tip beside it is not readable, .*put back copies"):
        read_journal(path)


def test_flips_of_the_note_are_harmless_or_refused(path: Path) -> None:
    good = path.with_name(TIP).read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            path.with_name(TIP).write_bytes(bytes(damaged))
            with pytest.raises(InputError, match=r"journal\.(jsonl|tip)"):
                read_journal(path)


def test_the_next_driver_writes_the_note_that_a_killed_one_did_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_tip", die)
        with pytest.raises(Killed):
            write(path, [Alive(at=6.0)])
    assert path.with_name(TIP).read_bytes().startswith(b"000000000006 ")
    assert read_journal(path) == [*EVENTS, Alive(at=6.0)]
    write(path, [Alive(at=7.0)])
    assert path.with_name(TIP).read_bytes().startswith(b"000000000008 ")
    assert read_journal(path) == [*EVENTS, Alive(at=6.0), Alive(at=7.0)]


@pytest.fixture
def drivers(tmp_path: Path) -> list[bytes]:
    """The parts of three drivers that each took the sweep up from the one before, two events each."""
    parts, whole = list[bytes](), b""
    for number in range(3):
        write_journal(tmp_path / FILE, whole)
        write(tmp_path / FILE, EVENTS[2 * number : 2 * number + 2])
        parts.append((tmp_path / FILE).read_bytes()[len(whole) :])
        whole += parts[-1]
    return parts


def events_of(path: Path, parts: list[bytes]) -> list[Event]:
    write_journal(path, joined(parts))
    return read_journal(path)


def test_parts_are_joined_and_get_a_note_of_their_end(drivers: list[bytes], tmp_path: Path) -> None:
    assert joined([]) == b""
    assert joined(drivers) == b"".join(drivers)
    assert events_of(tmp_path / FILE, drivers) == EVENTS
    (tmp_path / FILE).write_bytes(b"".join(drivers[:2]))
    with pytest.raises(InputError, match="line 5 and what follows is missing"):
        read_journal(tmp_path / FILE)


@pytest.mark.parametrize("late", [{0: 1}, {1: 2}, {0: 1, 1: 3}, {0: 5}])
def test_what_a_driver_added_after_it_had_lost_the_lease_has_never_happened(
    drivers: list[bytes], tmp_path: Path, late: dict[int, int]
) -> None:
    parts = list(drivers)
    for driver, count in late.items():
        write_journal(tmp_path / FILE, b"".join(drivers[: driver + 1]))
        before = (tmp_path / FILE).stat().st_size
        write(tmp_path / FILE, [Alive(at=100.0 + number) for number in range(count)])
        parts[driver] += (tmp_path / FILE).read_bytes()[before:]
    assert events_of(tmp_path / FILE, parts) == EVENTS


def test_a_part_that_is_gone_or_damaged_is_refused(drivers: list[bytes], tmp_path: Path) -> None:
    for damaged in ([drivers[0], drivers[2]], drivers[1:], [drivers[0].replace(b"made-up", b"Made-up"), *drivers[1:]]):
        with pytest.raises(InputError, match=r"journal\.jsonl: line \d+ was changed, or one before it is missing"):
            events_of(tmp_path / FILE, damaged)
