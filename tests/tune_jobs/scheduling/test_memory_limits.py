"""Nodes that are low on memory: fewer trials there, no failure of a trial that fits."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from tests.tune_jobs.driven import MadeUp, Sweep, begun
from tune_jobs.execution.monitor import POLL_EVERY_S
from tune_jobs.execution.signals import Interrupted
from tune_jobs.scheduling.memory_limits import FEWER_S, FIRST_PAUSE_S, LONGEST_PAUSE_S
from tune_jobs.state.events import Moved
from tune_jobs.state.trial import Status


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    with begun(tmp_path, MadeUp()) as found:
        yield found


def killed(trial: Any, *others: Any, used_gib: float = 22.5, foreign_gib: float = 0.1) -> OutOfMemoryError:
    """What Ray says of workers that it has killed at once, ``trial``'s among them."""
    names = [each.temporary_state.ray_actor._actor_id.hex() for each in (trial, *others)]
    workers = "\n".join(
        f"Selected to kill: (Actor({name.partition('@')[0].replace('-', '')}): pid={n}, actual memory used=1.30GB)"
        for n, name in enumerate(names)
    )
    return OutOfMemoryError(
        f"{len(names)} worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.1, "
        f"ID: {names[0].partition('@')[2]}) was {used_gib}GB used / 23.54GB limit (0.95)\n"
        f"reason: exceeded threshold of {22 * 2**30}B\n{workers}\n77\t{foreign_gib:.2f}\t/usr/bin/other\n"
    )


def text_of(error: OutOfMemoryError, trial: Any) -> RayActorError:
    """The error as ``tune_internals`` hands it over."""
    return RayActorError(actor_id=trial.temporary_state.ray_actor._actor_id.hex(), error_msg=str(error))


def test_a_node_low_on_memory_gets_one_trial_fewer_for_a_while_and_nobody_has_failed(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.nodes.num_places = 4
    sweep.wait(2 * POLL_EVERY_S)
    trials = [sweep.start(node_id=name) for name in ("m1", "m1", "m2", "m2")]
    sweep.report(trials[0], 1)
    sweep.save(trials[0])
    sweep.fail(trials[0], text_of(killed(trials[0]), trials[0]))
    event = sweep.last()
    assert isinstance(event, Moved)
    assert not event.alone
    said = capsys.readouterr().out
    assert said.startswith("trial 0 goes on later: node low on memory (22.5 of 23.5 GiB used, 22.0 allowed")
    assert said.endswith("; node m1 runs 1 at a time for 10 minutes\n")
    assert sweep.nodes.left == {"m1": 1}
    assert sweep.suggest() is None
    assert (sweep.ready.all_trials.trials[0].failures, sweep.ready.all_trials.trials[0].status) == (0, Status.WAITING)
    sweep.fail(trials[2])
    again = sweep.start(node_id="m2")
    assert (again.config["number"], again.config["checkpoint"] is not None) == (0, True)
    sweep.wait(FEWER_S)
    assert sweep.nodes.left == {}
    assert sweep.start(node_id="m1").config["number"] == 2


def test_trials_that_are_killed_together_have_not_had_the_node_to_themselves(sweep: Sweep) -> None:
    sweep.nodes.num_places = 4
    sweep.wait(2 * POLL_EVERY_S)
    trials = [sweep.start(node_id="m1") for _ in range(3)]
    sweep.wait(POLL_EVERY_S)
    for trial, told in [(trial, text_of(killed(*trials[:2]), trial)) for trial in trials[:2]]:
        sweep.fail(trial, told)
    # A moment later, before the memory of the first two is free.
    sweep.fail(trials[2], text_of(killed(trials[2]), trials[2]))
    assert [view.killed_alone for view in sweep.ready.all_trials.all()] == [0, 0, 0]
    assert sweep.nodes.left == {"m1": 1}


def test_workers_that_start_elsewhere_do_not_count_on_a_node_that_has_no_place_for_them(sweep: Sweep) -> None:
    sweep.nodes.num_places, sweep.nodes.names = 4, ("m1", "m2", "m3", "m4")
    sweep.wait(2 * POLL_EVERY_S)
    trial = sweep.start(node_id="m1")
    for _ in range(3):
        assert isinstance(sweep.suggest(), dict)
        sweep.trials.append(trial)
    sweep.fail(trial, text_of(killed(trial), trial))
    event = sweep.last()
    assert isinstance(event, Moved)
    assert event.alone
    assert sweep.ready.monitor.at_a_time() == 3
    sweep.wait(LONGEST_PAUSE_S + POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 1}
    assert sweep.ready.monitor.at_a_time() == 4


def test_trials_that_wait_for_more_machines_do_not_keep_a_trial_from_having_had_its_node_alone(sweep: Sweep) -> None:
    sweep.nodes.names, sweep.nodes.waiting = ("m1",), 1
    sweep.wait(2 * POLL_EVERY_S)
    trial = sweep.start(node_id="m1")
    assert isinstance(sweep.suggest(), dict), "this one waits"
    sweep.trials.append(trial)
    sweep.fail(trial, text_of(killed(trial), trial))
    assert sweep.ready.all_trials.trials[0].killed_alone == 1


def alone(sweep: Sweep, **known: Any) -> Any:
    """The next trial is begun once its node may run it, and killed without a neighbour."""
    sweep.wait(FIRST_PAUSE_S + 2 * POLL_EVERY_S)
    trial = sweep.start(node_id="m1")
    sweep.fail(trial, text_of(killed(trial, **known), trial))
    return trial


def test_a_trial_that_does_not_fit_alone_is_begun_again_then_with_less_and_less_and_fails_at_last(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.nodes.names = ("m1",)
    first = alone(sweep).config
    assert (first["experiment"]["micro_batch"], first["experiment"]["strategy"]["optim"]["batch_size"]) == (None, 32)
    assert sweep.suggest() is None, "the node is paused"
    assert sweep.nodes.left == {"m1": 0}
    sizes = [alone(sweep).config["experiment"]["micro_batch"] for _ in range(4)]
    assert sizes == [None, 8, 2, 1]
    view = sweep.ready.all_trials.trials[0]
    assert view.status is Status.FAILED
    assert view.reason.startswith("does not fit, though nothing else ran there: node low on memory (22.5 of 23.5 GiB")
    assert "is paused for 5 s" in capsys.readouterr().out
    assert sweep.ready.all_trials.trials[0].failures == 0


def test_getting_further_makes_up_for_having_been_killed_alone(sweep: Sweep) -> None:
    sweep.nodes.names = ("m1",)
    view = sweep.ready.all_trials.trials[alone(sweep).config["number"]]
    for unit in range(1, 5):
        assert view.killed_alone == 1
        sweep.wait(FIRST_PAUSE_S + 2 * POLL_EVERY_S)
        trial = sweep.start(node_id="m1")
        sweep.report(trial, unit)
        assert view.killed_alone == 0
        sweep.fail(trial, text_of(killed(trial), trial))
    assert (view.status, view.experiment.micro_batch) == (Status.WAITING, None)


def test_a_node_that_others_fill_is_waited_for_longer_and_longer_and_no_trial_fails(sweep: Sweep) -> None:
    sweep.nodes.names = ("m1",)
    waited = []
    for _ in range(8):
        trial = sweep.start(node_id="m1")
        sweep.fail(trial, text_of(killed(trial, foreign_gib=15.0), trial))
        began = sweep.clock.now
        while sweep.nodes.left == {"m1": 0}:
            sweep.wait(POLL_EVERY_S)
        waited.append(sweep.clock.now - began)
    assert waited == pytest.approx([10, 20, 40, 60, 60, 60, 60, 60], abs=2 * POLL_EVERY_S)
    assert sweep.ready.all_trials.trials[0].killed_alone == 0


def test_a_trial_goes_elsewhere_if_its_node_is_too_small_and_another_has_room(sweep: Sweep) -> None:
    sweep.nodes.num_places = 2
    trial = sweep.start(node_id="m1")
    sweep.fail(trial, text_of(killed(trial), trial))
    sweep.wait(LONGEST_PAUSE_S - POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 0}
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 1}


def test_a_worker_killed_before_its_trial_began_gets_no_smaller_batch(sweep: Sweep) -> None:
    sweep.nodes.names = ("m1",)
    for _ in range(3):
        sweep.wait(FIRST_PAUSE_S + 2 * POLL_EVERY_S)
        config = sweep.suggest()
        assert isinstance(config, dict)
        path = sweep.ready.folder / "error.txt"
        path.write_text("Failure # 1 (occurred at noon)\nworker(s) were killed due to the node running low on memory.")
        trial = SimpleNamespace(config=config, pickled_error_file=None, error_file=str(path))
        trial.temporary_state = SimpleNamespace(ray_actor=None)
        sweep.ready.searcher.on_trial_complete("attempt-0", error=True)
        sweep.callback.on_trial_error(trial=trial)
    view = sweep.ready.all_trials.trials[0]
    assert (view.status, view.experiment.micro_batch) == (Status.FAILED, None)
    assert view.reason == "does not fit, though nothing else ran there: node low on memory"


def test_a_sweep_whose_only_node_is_left_alone_still_hears_that_it_is_to_end(sweep: Sweep) -> None:
    sweep.nodes.names = ("m1",)
    alone(sweep)
    sweep.callback._stop_requested = lambda: True
    with pytest.raises(Interrupted):
        sweep.suggest()
