"""The order of things when something happens: the journal first, then trials, then exports."""

from pathlib import Path

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.made_up import opened
from tests.tune_jobs.simulation import Clock
from tune_jobs.state.events import Alive, Closed, Created, Event
from tune_jobs.state.journal import FILE, Journal, read_journal
from tune_jobs.state.sweep_state import SweepState
from tune_jobs.state.trials import Trials


def test_the_first_line_names_the_sweep_whatever_happens_first(tmp_path: Path) -> None:
    with Journal(tmp_path / FILE) as journal:
        state = SweepState(journal, [], clock=Clock(7.0))
        state.happened(opened(9.0, settings={"trials": 3}))
        state.happened(Alive(at=10.0))
    created, *others = read_journal(tmp_path / FILE)
    assert isinstance(created, Created)
    assert (created.at, created.sweep) == (9.0, state.all_trials.sweep)
    assert len(created.sweep) == 16
    assert [event.event for event in others] == ["opened", "alive"]


def test_a_sweep_keeps_its_name_from_driver_to_driver_and_two_have_different_ones(tmp_path: Path) -> None:
    names = []
    for sweep in ("a", "a", "b"):
        (tmp_path / sweep).mkdir(exist_ok=True)
        path = tmp_path / sweep / FILE
        with Journal(path) as journal:
            state = SweepState(journal, read_journal(path))
            state.happened(opened(1.0))
        names.append(state.all_trials.sweep)
    assert names[0] == names[1] != names[2]
    assert [event.event for event in read_journal(tmp_path / "a" / FILE)] == ["created", "opened", "opened"]


def test_a_name_that_is_given_is_written_once(tmp_path: Path) -> None:
    with Journal(tmp_path / FILE) as journal:
        state = SweepState(journal, [])
        state.happened(Created(at=1.0, sweep="mine"))
        state.happened(Alive(at=2.0))
    assert [event.event for event in read_journal(tmp_path / FILE)] == ["created", "alive"]
    assert state.all_trials.sweep == "mine"


def test_exports_hear_of_every_event_once_it_is_written_and_trials_know_of_it(tmp_path: Path) -> None:
    heard: list[tuple[str, int, bool]] = []

    def export(event: Event, all_trials: Trials) -> None:
        heard.append((event.event, len(read_journal(tmp_path / FILE)), all_trials.settings is not None))

    with Journal(tmp_path / FILE) as journal:
        state = SweepState(journal, [])
        state.exports += [export, export]
        state.happened(opened(1.0))
    assert heard == [("created", 1, False)] * 2 + [("opened", 2, True)] * 2


def test_what_cannot_be_written_has_not_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    with Journal(tmp_path / FILE) as journal:
        state = SweepState(journal, [Created(at=1.0, sweep="mine")], clock=Clock(5.0))
        state.exports.append(lambda event, _: heard.append(event))

        def away(_: Event) -> None:
            raise InputError("the storage is away")

        monkeypatch.setattr(journal, "append", away)
        with pytest.raises(InputError):
            state.happened(opened(9.0, settings={"trials": 3}))
    assert (state.all_trials.settings, state.written_at, heard) == (None, 5.0, [])


def test_the_time_of_the_last_event_is_its_own(tmp_path: Path) -> None:
    with Journal(tmp_path / FILE) as journal:
        state = SweepState(journal, [], clock=Clock(5.0))
        assert state.written_at == 5.0
        state.happened(Closed(at=8.0))
        assert state.written_at == 8.0
