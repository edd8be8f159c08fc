"""Workers that trials have to leave, on made-up machines and a clock of our own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from ray.tune.result import SHOULD_CHECKPOINT
from ray.tune.search import Searcher

from tests.tune_jobs.driven import STALL_S, MadeUp, Sweep, begun
from tests.tune_jobs.simulated import ROOM
from tests.tune_jobs.simulation import result
from tune_jobs.execution.monitor import EXCLUDE_S, LONGEST_GAP_S, POLL_EVERY_S
from tune_jobs.execution.train_fn import GROUP, NODES
from tune_jobs.scheduling.limits import GIB
from tune_jobs.state.events import Measured, Moved, Retried
from tune_jobs.state.trial import Status
from tune_jobs.storage.retry import UnwritableError


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    with begun(tmp_path, MadeUp()) as found:
        yield found


def test_as_many_trials_are_under_way_as_there_are_places_now(sweep: Sweep) -> None:
    first = sweep.start()
    assert sweep.suggest() is None
    sweep.nodes.num_places = 3
    sweep.wait(2 * POLL_EVERY_S)
    sweep.start()
    third = sweep.start()
    assert sweep.suggest() is None
    sweep.nodes.num_places = 1
    sweep.wait(2 * POLL_EVERY_S)
    for trial in (first, third):
        assert sweep.suggest() is None
        sweep.report(trial, 1)
        sweep.fail(trial)
    assert sweep.suggest() is None, "the second trial still runs"


def test_as_many_trials_are_under_way_as_the_memory_of_nodes_has_room_for(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.nodes.num_places, sweep.nodes.room = 8, {"m1": 7 * GIB, "m2": 100 * GIB}
    sweep.wait(2 * POLL_EVERY_S)
    first = sweep.start(node_id="m1")
    sweep.report(first, 1, memory=2 * GIB)
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 3}
    arm = first.config["arm"]
    line = f"node m1 runs 3 at a time: a trial of {arm} held 2.0 GiB, and Ray has 7.0 GiB of memory for trials there\n"
    assert capsys.readouterr().out == line
    running = [first, *(sweep.start(node_id=node) for node in ("m1", "m1", "m2", "m2", "m2", "m2"))]
    assert sweep.suggest() is None, "three there and four on the other"
    sweep.report(running[1], 1, memory=5 * GIB)
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 2}, "what runs goes on, but is not followed by another"
    for trial in running[:2]:
        sweep.report(trial, 5)
        sweep.ready.searcher.on_trial_complete(trial.trial_id)
        sweep.callback.on_trial_complete(trial=trial)
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.left == {"m1": 2}, "the largest has room beside the one of 2 GiB that is left"
    assert "node m1" not in capsys.readouterr().out, "it was said once"
    sweep.nodes.room = {}
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.left == {}


def test_a_sweep_without_trials_left_ends_however_many_places_there_are(sweep: Sweep) -> None:
    sweep.nodes.num_places = 50
    sweep.wait(2 * POLL_EVERY_S)
    trials = [sweep.start() for _ in range(9)]
    assert sweep.suggest() is None
    for trial in trials:
        sweep.report(trial, 5)
        sweep.ready.searcher.on_trial_complete(trial.trial_id)
        sweep.callback.on_trial_complete(trial=trial)
    assert sweep.suggest() == Searcher.FINISHED


def test_a_worker_that_is_silent_for_too_long_is_ended_and_that_is_a_failure_with_a_reason(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = sweep.start()
    sweep.report(trial, 1)
    sweep.save(trial)
    sweep.wait(STALL_S - 2 * POLL_EVERY_S)
    assert sweep.nodes.ended == []
    sweep.wait(3 * POLL_EVERY_S)
    assert sweep.nodes.ended == ["actor-0@m1"]
    sweep.fail(trial)
    event = sweep.last()
    assert isinstance(event, Retried)
    assert event.reason == "no result for 1 minutes, so its worker counts as lost"
    assert f"trial 0 is tried again: {event.reason}\n" in capsys.readouterr().out
    again = sweep.start()
    assert (again.config["number"], again.config["attempt"]) == (0, 1)
    assert again.config["checkpoint"] is not None


def test_every_result_and_every_saved_state_starts_the_silence_anew(sweep: Sweep) -> None:
    trial = sweep.start()
    for unit in range(1, 4):
        sweep.wait(STALL_S - 2 * POLL_EVERY_S)
        sweep.report(trial, unit)
        sweep.wait(STALL_S - 2 * POLL_EVERY_S)
        sweep.save(trial)
    assert sweep.nodes.ended == []


def test_units_that_are_slow_are_waited_for_by_what_their_strategy_has_needed(sweep: Sweep) -> None:
    sweep.nodes.num_places = 2
    sweep.wait(2 * POLL_EVERY_S)
    slow, other = sweep.start(), sweep.start()
    sweep.report(slow, 1, seconds=STALL_S)
    sweep.wait(4 * STALL_S)
    assert sweep.nodes.ended == ["actor-1@m1"], "the other strategy has had no such unit"
    sweep.fail(other)
    sweep.wait(2 * STALL_S)
    assert sweep.nodes.ended == ["actor-1@m1", "actor-0@m1"]


def test_after_each_failure_in_a_row_a_trial_gets_twice_the_time(sweep: Sweep) -> None:
    sweep.fail(sweep.start())
    sweep.start()
    sweep.wait(2 * STALL_S - 3 * POLL_EVERY_S)
    assert sweep.nodes.ended == []
    sweep.wait(4 * POLL_EVERY_S)
    assert sweep.nodes.ended == ["actor-1@m1"]


def test_a_driver_that_was_held_up_itself_blames_no_worker(sweep: Sweep) -> None:
    sweep.start()
    sweep.wait(10 * STALL_S, step_s=10 * STALL_S)
    assert sweep.nodes.ended == []
    assert 10 * STALL_S > LONGEST_GAP_S


def test_on_a_machine_that_goes_a_trial_saves_after_its_unit_and_goes_on_elsewhere_without_having_failed(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = sweep.start()
    assert SHOULD_CHECKPOINT not in sweep.report(trial, 1)
    sweep.nodes.going = {"m1": float("inf")}
    sweep.wait(2 * POLL_EVERY_S)
    assert sweep.nodes.ended == []
    assert sweep.report(trial, 2)[SHOULD_CHECKPOINT]
    assert sweep.nodes.ended == []
    sweep.save(trial)
    assert sweep.nodes.ended == ["actor-0@m1"]
    sweep.fail(trial)
    assert isinstance(sweep.last(), Moved)
    assert capsys.readouterr().out == "trial 0 goes on elsewhere: node m1 is about to go\n"
    view = sweep.ready.all_trials.trials[0]
    assert (view.status, view.failures, view.saved_unit) == (Status.WAITING, 0, 2)
    assert not (sweep.ready.folder / "trials" / view.name / "error.txt").exists()
    again = sweep.start(node_id="m2")
    assert again.config["number"] == 0
    assert SHOULD_CHECKPOINT not in sweep.report(again, 3)


@pytest.mark.parametrize(("left_s", "ends"), [(20.0, True), (60.0, False)])
def test_a_unit_that_cannot_be_finished_before_the_machine_goes_is_not_waited_for(
    sweep: Sweep, left_s: float, ends: bool
) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, seconds=40.0)
    sweep.save(trial)
    sweep.nodes.going = {"m1": sweep.clock.now + left_s}
    sweep.wait(POLL_EVERY_S)
    assert sweep.nodes.ended == (["actor-0@m1"] if ends else [])


def test_trials_elsewhere_are_left_alone(sweep: Sweep) -> None:
    trial = sweep.start(node_id="m2")
    sweep.nodes.going = {"m1": sweep.clock.now}
    sweep.wait(2 * POLL_EVERY_S)
    assert SHOULD_CHECKPOINT not in sweep.report(trial, 1)
    sweep.save(trial)
    assert sweep.nodes.ended == []


def test_the_worker_of_a_trial_that_is_over_gets_no_other_one_where_the_machine_goes(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.nodes.going = {"m1": float("inf")}
    sweep.wait(2 * POLL_EVERY_S)
    sweep.report(trial, 5)
    sweep.ready.searcher.on_trial_complete(trial.trial_id)
    trial.status = Trial.TERMINATED
    sweep.callback.on_trial_complete(trial=trial)
    assert sweep.nodes.ended == ["actor-0@m1"]
    # Tune, which has not heard of that yet, gives the worker to the next trial.
    following = sweep.start()
    following.temporary_state.ray_actor = trial.temporary_state.ray_actor
    sweep.fail(following)
    assert isinstance(sweep.last(), Moved)
    assert sweep.ready.all_trials.trials[following.config["number"]].failures == 0


FULL = UnwritableError("/tmp: cannot be written (No space left on device); mend that")


def test_a_machine_that_cannot_write_is_kept_clear_for_a_while_and_what_runs_there_goes_on(sweep: Sweep) -> None:
    sweep.nodes.num_places = 4
    sweep.wait(2 * POLL_EVERY_S)
    trials = [sweep.start(node_id=name) for name in ("m1", "m1", "m2", "m2")]
    sweep.fail(trials[0], FULL)
    assert isinstance(sweep.last(), Retried)
    assert sweep.nodes.left == {"m1": 0}
    assert sweep.suggest() is None, "one still runs there, and the other machine has no place"
    sweep.fail(trials[2])
    again = sweep.start(node_id="m2")
    assert again.config["number"] == 0
    sweep.fail(trials[1])
    assert sweep.suggest() is None
    sweep.wait(EXCLUDE_S)
    assert sweep.nodes.left == {}
    assert sweep.start(node_id="m1").config["number"] == 2


def test_a_machine_on_which_a_worker_cannot_even_begin_is_kept_clear(sweep: Sweep) -> None:
    sweep.nodes.num_places = 2
    trial = sweep.start(node_id="m1")
    trial.temporary_state.ray_actor = None
    sweep.ready.scheduler.on_trial_error(None, trial)
    text = (
        "The actor died because of an error raised in its creation task ... OSError: [Errno 28] No space left on device"
    )
    sweep.callback._monitor.ended(trial)
    path = sweep.ready.folder / "error.pkl"
    path.write_bytes(cloudpickle.dumps(RayActorError(actor_id="actor-9@m1", error_msg=text)))
    trial.pickled_error_file = str(path)
    sweep.callback.on_trial_error(trial=trial)
    assert sweep.nodes.left == {"m1": 0}


def test_the_only_machine_is_not_kept_clear_nor_the_last_one_left(sweep: Sweep) -> None:
    sweep.nodes.num_places = 2
    sweep.wait(2 * POLL_EVERY_S)
    sweep.fail(sweep.start(node_id="m1"), FULL)
    assert sweep.nodes.left == {"m1": 0}
    sweep.fail(sweep.start(node_id="m2"), FULL)
    assert sweep.nodes.left == {"m1": 0}
    sweep.nodes.names = ("m1",)
    sweep.wait(POLL_EVERY_S)
    assert sweep.nodes.left == {}


def test_nothing_is_held_when_a_sweep_has_ended(tmp_path: Path) -> None:
    nodes = MadeUp(num_places=2)
    with begun(tmp_path, nodes) as sweep:
        sweep.fail(sweep.start(node_id="m1"), FULL)
        assert nodes.left == {"m1": 0}
    assert nodes.left == {}


def saved(sweep: Sweep, trial: Trial, unit: int) -> str:
    folder = sweep.ready.folder / "trials" / trial.config["folder"] / f"checkpoint_{unit:09d}"
    folder.mkdir(parents=True)
    return str(folder)


def test_a_trial_of_several_workers_leaves_with_its_checkpoint_if_any_of_their_machines_goes(tmp_path: Path) -> None:
    nodes = MadeUp(names=("m1", "m2", "m3"), num_places=6)
    with begun(tmp_path, nodes, replace(ROOM, workers=2)) as sweep:
        trial = sweep.start()
        on_both = {NODES: ["m2", "m3"], GROUP: "a1"}
        sweep.callback.on_trial_result(trial=trial, result=result(1, 0.5) | on_both)
        nodes.going["m3"] = sweep.clock.now + 1e6
        sweep.wait(2 * POLL_EVERY_S)
        told = result(2, 0.4) | on_both
        sweep.callback.on_trial_result(trial=trial, result=told)
        assert (nodes.ended, SHOULD_CHECKPOINT in told) == ([], False)
        told = result(3, 0.6) | on_both | {CHECKPOINT_PATH_KEY: saved(sweep, trial, 3)}
        sweep.callback.on_trial_result(trial=trial, result=told)
        assert nodes.ended == ["actor-0@m1"]
        sweep.fail(trial)
        assert nodes.freed == ["a1"]
        assert isinstance(sweep.last(), Moved)
        view = sweep.ready.all_trials.trials[0]
        assert (view.unit, view.saved_unit, view.checkpoint) == (
            3,
            3,
            "trials/0000-linear_probe/checkpoint_000000003",
        )


def test_it_is_the_first_workers_machine_that_is_kept_clear_not_that_of_its_function(tmp_path: Path) -> None:
    nodes = MadeUp(names=("m1", "m2", "m3"), num_places=6)
    with begun(tmp_path, nodes, replace(ROOM, workers=2)) as sweep:
        trial = sweep.start()
        sweep.callback.on_trial_result(trial=trial, result=result(1, 0.5) | {NODES: ["m2", "m3"]})
        sweep.fail(trial, UnwritableError("/disk: cannot be written (No space left on device); mend that"))
        assert sweep.ready.monitor.excluded_nodes() == ("m2",)


def test_until_the_first_result_the_journal_has_how_far_workers_are_in_their_first_unit(sweep: Sweep) -> None:
    sweep.nodes.num_places = 2
    sweep.wait(2 * POLL_EVERY_S)
    first, second = sweep.start(), sweep.start()
    assert [trial.config["tells"] for trial in (first, second)] == [True, True]
    told = {"images": 32, "unit_images": 128, "left_s": 60.0}
    sweep.nodes.told[1] = told
    sweep.wait(2 * POLL_EVERY_S)
    last = sweep.last()
    assert isinstance(last, Measured)
    assert last.model_dump(include=set(told)) == told
    assert sweep.ready.all_trials.trials[1].measured == last
    sweep.report(first, 1)
    sweep.nodes.told[1] = told
    sweep.wait(2 * POLL_EVERY_S)
    assert not isinstance(sweep.last(), Measured)
    sweep.fail(second)
    assert sweep.nodes.told == {}, "nothing is left on the cluster"
    assert not sweep.start().config["tells"]
