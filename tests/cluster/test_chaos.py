"""Faults on purpose: what is found wrong when something is. Real ones are in ``test_multi_node.py``."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import typer
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from chaos import __main__ as command
from chaos.checks import differences, lost, unsound
from chaos.faults import Fault, Told, refuse_without_nodes, refuse_without_root, trained_again
from chaos.isolation import Network, can_isolate, fill_disk, mount_disk, unmount_disk
from chaos.processes import kill_session, processes_of, read_process, wait_until
from chaos.trying import in_words
from chaos.watching import had_news, is_amid_training
from handclip_core.errors import InputError
from tests.limits import LIMIT_S
from tests.tune_jobs.simulated import run, settings
from tune_jobs.state.events import Closed, Ended, Event, Started, Validated
from tune_jobs.state.journal import FILE, Journal, read_journal, write_journal
from tune_jobs.state.trials import folded

Tamper = Callable[[Path], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that has ended."""
    storage = tmp_path_factory.mktemp("finished")
    run(settings(storage))
    (storage / "simulated" / "best").mkdir()
    return storage / "simulated"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "simulated")
    return tmp_path / "simulated"


def test_a_sweep_that_ended_in_peace_has_nothing_wrong_with_it(copied: Path) -> None:
    assert unsound(copied) == []


def _rewrite(folder: Path, events: Sequence[Event]) -> None:
    """Let the journal say ``events``, with checksums that are right."""
    write_journal(folder / FILE, b"")
    with Journal(folder / FILE) as journal:
        for event in events:
            journal.append(event)


def _end_twice(folder: Path) -> None:
    events = read_journal(folder / FILE)
    _rewrite(folder, [*events, next(event for event in events if isinstance(event, Ended))])


def _forget_an_end(folder: Path) -> None:
    events = [event for event in read_journal(folder / FILE) if not isinstance(event, Closed)]
    last = max(place for place, event in enumerate(events) if isinstance(event, Ended))
    _rewrite(folder, events[:last] + events[last + 1 :])


def _raise_a_score(folder: Path) -> None:
    lines = (folder / "leaderboard.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[3] = "0.9999"
    (folder / "leaderboard.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def _drop_a_row(folder: Path) -> None:
    lines = (folder / "leaderboard.csv").read_text().splitlines()
    (folder / "leaderboard.csv").write_text("\n".join(lines[:-1]) + "\n")


def _suggest_another(folder: Path) -> None:
    storage = RDBStorage(f"sqlite:///{folder / 'study.db'}")
    trial = storage.create_new_trial(storage.get_study_id_from_name("simulated"))
    storage.set_trial_state_values(trial, TrialState.FAIL)


def _leave_half_a_file(folder: Path) -> None:
    (folder / "best.partial").mkdir()


def _leave_a_state(folder: Path) -> None:
    state = next((folder / "trials").iterdir()) / "checkpoint_000777"
    state.mkdir()
    (state / "handclip_final.pth").touch()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_end_twice, "has ended 2 times"),
        (_forget_an_end, "has not ended"),
        (_raise_a_score, "another row on the leaderboard"),
        (_drop_a_row, "another row on the leaderboard"),
        (_suggest_another, "is in the study alone"),
        (_leave_half_a_file, "left over: best.partial"),
        (_leave_a_state, "checkpoint_000777"),
        (lambda folder: (folder / "best").rmdir(), "missing: best"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_found(copied: Path, tamper: Tamper, message: str) -> None:
    tamper(copied)
    assert any(message in line for line in unsound(copied)), unsound(copied)


def test_results_that_are_gone_or_moved_are_found(finished: Path) -> None:
    events = read_journal(finished / FILE)
    assert lost(events[:5], events) == []
    assert len(lost(events, events[:-2])) == 2
    assert lost(events, events[::-1]) == ["the journal's lines stand in another order"]


def test_a_unit_trained_again_is_counted_and_must_have_the_same_result(copied: Path) -> None:
    events = read_journal(copied / FILE)
    result = next(event for event in events if isinstance(event, Validated))
    other = result.model_copy(update={"metrics": {**result.metrics, "map": 0.5}})
    assert trained_again(events[:3], events) == 0
    assert trained_again(events, [*events, result]) == 1
    _rewrite(copied, [*events, other])
    assert any("had other results when it was trained again" in line for line in unsound(copied))


def test_scores_are_compared_only_where_one_trial_ran_at_a_time(finished: Path) -> None:
    calm, disturbed = (folded(read_journal(finished / FILE)) for _ in range(2))
    assert differences(calm, disturbed, same_scores=True) == []
    disturbed.trials[1].metrics["map"] += 0.01
    assert differences(calm, disturbed, same_scores=False) == []
    assert "trial 1: score" in differences(calm, disturbed, same_scores=True)[0]
    del disturbed.trials[1]
    assert len(differences(calm, disturbed, same_scores=False)) == 1


def test_a_trial_is_amid_its_training_between_its_first_and_its_last_result(finished: Path) -> None:
    events = read_journal(finished / FILE)
    first = next(place for place, event in enumerate(events) if isinstance(event, Validated))
    end = next(place for place, event in enumerate(events) if isinstance(event, Ended))
    assert not is_amid_training(events[:first])
    assert is_amid_training(events[: first + 1])
    assert not is_amid_training(events[: end + 1])


def test_a_trial_that_was_begun_again_has_news_only_by_what_comes_later(finished: Path) -> None:
    result = next(event for event in read_journal(finished / FILE) if isinstance(event, Validated))
    begin, end = Started(at=0.0, trial=result.trial), Ended(at=0.0, trial=result.trial, status="complete")
    trials = [result.trial]
    assert had_news([result], trials, begun_again=False)
    assert not had_news([result], trials, begun_again=True)
    assert not had_news([result, begin], trials, begun_again=True)
    assert had_news([result, begin, result], trials, begun_again=True)
    assert had_news([end, begin], trials, begun_again=True)
    assert not had_news([begin, result], [*trials, 99], begun_again=True)


def test_a_fault_is_told_in_one_line() -> None:
    told = Told(Fault.KILL_NODE, "killed node n1", (0, 2), (), 3, 4.25)
    assert in_words(told) == (
        "kill-node: killed node n1; trial 0, 2 went on after 4.2 s, nothing lost, 3 units trained again"
    )


def test_a_session_is_killed_with_all_that_it_started_and_nothing_else() -> None:
    two = "import subprocess; subprocess.run(['sleep', '99'])"
    with (
        subprocess.Popen(["sleep", "99"]) as bystander,
        subprocess.Popen([sys.executable, "-c", two], start_new_session=True) as parent,
    ):
        wait_until(lambda: len(processes_of(parent.pid)) == 2, what="two processes", limit_s=LIMIT_S)
        kill_session(parent.pid)
        assert processes_of(parent.pid) == []
        assert parent.wait() == -signal.SIGKILL
        assert bystander.poll() is None
        bystander.kill()


def test_a_signal_does_not_reach_a_later_process_of_the_same_number() -> None:
    with subprocess.Popen(["sleep", "99"]) as process:
        found = read_process(process.pid)
        assert found is not None
        type(found)(found.pid, found.session, found.started - 1, found.title).send(signal.SIGKILL)
        time.sleep(0.1)
        assert process.poll() is None
        found.send(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_waiting_in_vain_names_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match="in vain for spring"):
        wait_until(lambda: False, what="spring", limit_s=0.01, every_s=0.001)


@pytest.mark.parametrize(
    ("arguments", "address", "message"),
    [
        ({}, "10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379: a cluster that was not started for this"),
        ({"on_this_cluster": True}, None, "RAY_ADDRESS is not set, so there is no cluster to use"),
        ({"faults": "kill-worker,flood"}, None, "--faults 'flood': choose from kill-worker, kill-node"),
        ({"faults": ""}, None, "--faults '': choose from"),
        (
            {"on_this_cluster": True, "faults": "kill-driver,drain-node"},
            "10.0.0.1:6379",
            "with --on-this-cluster there are kill-driver, storage-away, kill-worker",
        ),
    ],
)
def test_what_it_will_not_do_is_refused_in_one_line_before_anything_is_started(
    arguments: dict[str, object],
    address: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(typer.Exit) as ended:
        command.main(**arguments)  # type: ignore[arg-type]
    assert ended.value.exit_code == 2
    assert message in capsys.readouterr().err


def test_faults_of_the_sweeps_own_processes_and_folder_may_be_tried_anywhere() -> None:
    for fault in (Fault.KILL_DRIVER, Fault.STORAGE_AWAY, Fault.KILL_WORKER, Fault.FREEZE_WORKER):
        refuse_without_nodes(fault, own_nodes=False)


def test_networks_and_disks_of_nodes_are_roots_to_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.isolation.os.geteuid", lambda: 1000)
    for fault in (Fault.FILL_DISK, Fault.CUT_NETWORK):
        with pytest.raises(InputError, match=f"--faults {fault}: .* needs root and `ip`"):
            refuse_without_root(fault)
    refuse_without_root(Fault.KILL_NODE)


@pytest.fixture
def network() -> Iterator[Network]:
    if not can_isolate():
        pytest.skip("needs root and ip")
    try:
        made = Network.make()
    except RuntimeError as error:
        pytest.skip(f"this system allows no network of one's own: {error}")
    yield made
    made.remove()


def test_a_node_whose_network_is_cut_is_not_reached_until_that_is_mended(network: Network) -> None:
    network.join(1)
    address = network.join(2)
    assert address == f"{network.prefix}.3"
    with socket.create_server((network.host, 0)) as server:
        port = server.getsockname()[1]
        call = f"import socket; socket.create_connection(({network.host!r}, {port}), timeout=2)"

        def reached(place: int) -> bool:
            command = [*network.within(place), sys.executable, "-c", call]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        assert reached(1)
        network.cut(1)
        assert not reached(1)
        assert reached(2)
        network.mend(1)
        wait_until(lambda: reached(1), what="the mended network", limit_s=LIMIT_S)


def test_a_full_disk_takes_nothing_more(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not can_isolate():
        pytest.skip("needs root")
    try:
        mount_disk(disk)
    except RuntimeError as error:
        pytest.skip(f"this system allows no disk of one's own: {error}")
    try:
        fill_disk(disk)
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_text("a")
    finally:
        unmount_disk(disk)
    assert list(disk.iterdir()) == []
