from math import isnan
from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full
from tune_jobs.state.events import Alive, Begun, Closed, Ended, Event, Opened, Retried, Validated
from tune_jobs.state.journal import FILE, Journal, read_journal

PARAMS = {"strategy/optim/lr": 0.1 + 0.2, "strategy/augment/flip": True, "strategy/width": 3, "strategy/x": None}
EVENTS: list[Event] = [
    Opened(at=1.5, gpus=0.5),
    Begun(at=2.0, trial=0, params=PARAMS, experiment=Experiment(strategy=Full(), budget=7)),
    Retried(at=3.0, trial=0, reason='said "no"\nand more', micro_batch=4),
    Ended(at=4.0, trial=0, status="failed", reason="ünlucky"),
    Closed(at=5.0, reason="interrupted"),
]


def write(path: Path, events: list[Event]) -> None:
    with Journal(path) as journal:
        for event in events:
            journal.append(event)


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / FILE, EVENTS)
    found = read_journal(tmp_path / FILE)
    assert found == EVENTS
    assert isinstance(found[1], Begun)
    assert [(value, type(value)) for value in found[1].params.values()] == [
        (value, type(value)) for value in PARAMS.values()
    ]


def test_a_score_that_is_not_a_number_comes_back_as_one(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    event = Validated(
        at=0.0, trial=0, unit=1, done=False, metrics={"map": nan, "loss": inf}, best_map=nan, best_cmc1=0.1,
        best_unit=1, seconds=1.0, params_trained=1,
    )  # fmt: skip
    write(tmp_path / FILE, [EVENTS[1], event])
    _, found = read_journal(tmp_path / FILE)
    assert isinstance(found, Validated)
    assert isnan(found.best_map)
    assert isnan(found.metrics["map"])
    assert found.metrics["loss"] == inf


def test_no_file_is_no_event(tmp_path: Path) -> None:
    assert read_journal(tmp_path / FILE) == []


@pytest.mark.parametrize("torn", [b"{", b'{"at":9.0,"event":"alive"}', b"\0" * 512])
def test_a_line_without_an_end_has_never_happened_and_the_next_one_is_whole(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path / FILE, EVENTS)
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    assert read_journal(tmp_path / FILE) == EVENTS
    write(tmp_path / FILE, [Alive(at=10.0)])
    assert read_journal(tmp_path / FILE) == [*EVENTS, Alive(at=10.0)]


@pytest.mark.parametrize("line", [b"", b"{}", b'{"event":"alive"}', b'{"at":1,"event":"won"}', b"\xff"])
def test_any_other_line_that_cannot_be_read_is_named(tmp_path: Path, line: bytes) -> None:
    write(tmp_path / FILE, EVENTS)
    lines = (tmp_path / FILE).read_bytes().split(b"\n")
    lines[2] = line
    (tmp_path / FILE).write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"journal\.jsonl: line 3 is not readable") as refused:
        read_journal(tmp_path / FILE)
    assert "\n" not in str(refused.value)


def test_a_lost_line_that_began_a_trial_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / FILE, [event for event in EVENTS if not isinstance(event, Begun)])
    with pytest.raises(InputError, match=r"journal\.jsonl: line \d+ is about trial \d+, whose beginning is missing"):
        read_journal(tmp_path / FILE)
