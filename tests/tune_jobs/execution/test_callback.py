"""Tune's events, as they become records, study, leaderboard and files."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Checkpoint
from ray.tune.schedulers import TrialScheduler

from handclip_core.engine.objective import DivergedError
from handclip_core.errors import InputError
from handclip_core.runs.experiment import Experiment
from tests.tune_jobs.made_up import reported, unevaluated
from tests.tune_jobs.simulated import ROOM, settings
from tests.tune_jobs.simulation import Clock, FixedNodes
from tune_jobs.config.settings import Limits
from tune_jobs.execution.signals import Interrupted
from tune_jobs.lifecycle.build import build
from tune_jobs.reporting.study import FILE as STUDY
from tune_jobs.state.journal import FILE, Journal, Tip, read_journal
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.storage import retry as patience


class Sweep:
    """A session, driven as Tune would."""

    def __init__(self, folder: Path, ready: Any, clock: Clock) -> None:
        self.folder = folder
        self.ready = ready
        self.callback = ready.callback
        self.clock = clock
        self.stop_requested = False

    def start(self) -> Any:
        config = self.ready.searcher.suggest("tune-id")
        assert isinstance(config, dict)
        trial = SimpleNamespace(
            trial_id="tune-id",
            config=config,
            temporary_state=SimpleNamespace(ray_actor=None),
            pickled_error_file=None,
            error_file=None,
        )
        self.callback.on_trial_start(trial=trial)
        return trial

    def report(self, trial: Any, unit: int, value: float, *, best: float | None = None) -> None:
        self.callback.on_trial_result(trial=trial, result=reported(unit, value, best=best))

    def save(self, trial: Any, number: int = 0) -> Path:
        folder: Path = self.folder / "trials" / trial.config["folder"] / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True)
        for name in ("handclip_best.pth", "handclip_final.pth", "training_log.csv"):
            (folder / name).write_text(name)
        self.callback.on_checkpoint(trial=trial, checkpoint=Checkpoint.from_directory(folder))
        return folder

    def complete(self, trial: Any) -> None:
        self.ready.searcher.on_trial_complete(trial.trial_id)
        self.callback.on_trial_complete(trial=trial)

    def fail(self, trial: Any, error: BaseException) -> None:
        trial.pickled_error_file, trial.error_file = str(self.folder / "error.pkl"), str(self.folder / "error.log")
        Path(trial.pickled_error_file).write_bytes(cloudpickle.dumps(error))
        Path(trial.error_file).write_text("the whole traceback\n")
        self.ready.searcher.on_trial_complete(trial.trial_id, error=True)
        self.callback.on_trial_error(trial=trial)

    def of(self, trial: Any) -> TrialView:
        view: TrialView = self.ready.all_trials.trials[trial.config["number"]]
        return view

    def stored(self) -> list[optuna.trial.FrozenTrial]:
        """The study as it is in the database, with all that has happened so far."""
        (hears,) = self.ready.state.exports
        exports: Any = getattr(hears, "__self__")  # noqa: B009
        exports._study._write(self.ready.all_trials)
        return optuna.load_study(study_name="simulated", storage=f"sqlite:///{self.folder / STUDY}").get_trials()

    def leaderboard(self) -> list[dict[str, str]]:
        with (self.folder / "leaderboard.csv").open() as file:
            return list(csv.DictReader(file))


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    folder, clock = tmp_path / "simulated", Clock()
    folder.mkdir()
    swept = settings(tmp_path, keep_checkpoints=1, retries=1)
    trial_resources = replace(ROOM, concurrent=9)
    with build(
        swept,
        folder,
        trial_resources,
        stop_requested=lambda: found.stop_requested,
        clock=clock,
        nodes=FixedNodes(trial_resources),
    ) as ready:
        found = Sweep(folder, ready, clock)
        yield found


def diverged() -> BaseException:
    error = RayTaskError("train", "traceback", DivergedError("the loss diverged at step 3\nmore"))
    whole: BaseException = error.as_instanceof_cause()
    return whole


def not_evaluated(unit: int) -> dict[str, Any]:
    return unevaluated(unit, training={"loss/image_text": 2.5}, seconds=3.0, params_trained=7)


def test_a_unit_that_is_not_evaluated_is_recorded_shown_and_saved_but_scores_nothing(sweep: Sweep) -> None:
    trial = sweep.start()
    told = not_evaluated(1)
    assert sweep.ready.scheduler.on_trial_result(None, trial, told) == TrialScheduler.CONTINUE
    sweep.callback.on_trial_result(trial=trial, result=told)
    saved = sweep.save(trial)
    view = sweep.of(trial)
    assert (view.unit, view.seconds, view.params_trained) == (1, 3.0, 7)
    assert (view.curve, view.metrics, view.done, sweep.stored()[0].intermediate_values) == ({}, {}, False, {})
    assert view.saved_unit == 1
    assert view.checkpoint == saved.relative_to(sweep.folder).as_posix()
    (logged,) = (sweep.folder / "tensorboard" / view.name).glob("events*")
    assert b"loss/image_text" in logged.read_bytes()
    assert read_journal(sweep.folder / FILE)[-2].event == "trained"


def test_units_that_are_not_evaluated_count_as_getting_further_and_are_shown_once(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.callback.on_trial_result(trial=trial, result=not_evaluated(1))
    sweep.save(trial)
    for unit in (2, 3):
        sweep.fail(trial, RayActorError(error_msg="The actor died."))
        assert sweep.of(trial).failures == 1
        trial = sweep.start()
        sweep.callback.on_trial_result(trial=trial, result=not_evaluated(unit))
        assert (sweep.of(trial).failures, sweep.of(trial).unit) == (0, unit)
    before = sum(path.stat().st_size for path in (sweep.folder / "tensorboard").rglob("events*"))
    sweep.callback.on_trial_result(trial=trial, result=not_evaluated(3))
    assert sum(path.stat().st_size for path in (sweep.folder / "tensorboard").rglob("events*")) == before


def test_a_trial_whose_last_unit_was_not_saved_is_not_done_when_it_is_trained_again(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 5, 0.5)
    assert sweep.of(trial).done
    sweep.fail(trial, RayActorError(error_msg="The actor died."))
    again = sweep.start()
    sweep.callback.on_trial_result(trial=again, result=not_evaluated(1))
    sweep.save(again)
    assert (sweep.of(again).unit, sweep.of(again).saved_unit, sweep.of(again).done) == (1, 1, False)


def test_a_limit_ends_a_trial_after_a_unit_that_is_not_evaluated(sweep: Sweep) -> None:
    trial = sweep.start()
    limit_check = sweep.ready.scheduler._limit_check
    limit_check.limits = Limits(hours=1e-9)
    assert sweep.ready.scheduler.on_trial_result(None, trial, not_evaluated(1)) == TrialScheduler.STOP
    sweep.callback.on_trial_result(trial=trial, result=not_evaluated(1))
    sweep.save(trial)
    sweep.complete(trial)
    assert (sweep.of(trial).status, sweep.of(trial).saved_unit) == (Status.INTERRUPTED, 1)


def test_a_finished_trial_is_complete_with_the_score_of_its_best_weights(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.6)
    sweep.report(trial, 2, 0.5, best=0.6)
    sweep.complete(trial)
    view, stored = sweep.of(trial), sweep.stored()[0]
    assert (view.status, view.unit, view.score, view.metrics["cmc1"]) == (Status.COMPLETE, 2, 0.6, 0.6)
    assert (view.seconds, view.params_trained, view.attempts) == (4.0, 10, 1)
    assert (stored.state, stored.value, stored.intermediate_values) == (TrialState.COMPLETE, 0.6, {1: 0.6, 2: 0.5})
    assert stored.user_attrs["unit"] == 2
    config = sweep.folder / "trials" / view.name / "config.json"
    assert Experiment.from_file(config) == view.experiment


def test_a_trial_that_was_stopped_early_is_pruned(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    sweep.ready.scheduler.decisions.stopped[0] = 1
    sweep.complete(trial)
    assert sweep.of(trial).status is Status.STOPPED
    assert sweep.stored()[0].state is TrialState.PRUNED
    assert sweep.stored()[0].intermediate_values == {1: 0.4}


def test_a_score_that_is_not_a_number_is_a_failure(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, nan)
    sweep.complete(trial)
    assert sweep.of(trial).reason == "validation mAP is not a number"
    assert sweep.stored()[0].state is TrialState.FAIL


def test_a_trial_that_diverges_fails_at_once_with_its_reason_and_the_traceback_is_kept(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.fail(trial, diverged())
    view = sweep.of(trial)
    assert (view.status, view.reason) == (Status.FAILED, "DivergedError: the loss diverged at step 3")
    assert sweep.stored()[0].state is TrialState.FAIL
    assert sweep.stored()[0].user_attrs["reason"] == view.reason
    assert (sweep.folder / "trials" / view.name / "error.txt").read_text() == "the whole traceback\n"


def test_a_trial_whose_worker_is_lost_is_handed_out_again_from_its_last_state_and_then_fails(sweep: Sweep) -> None:
    lost = RuntimeError("The actor died unexpectedly before finishing this task.\n\tclass_name: X")
    first = sweep.start()
    sweep.report(first, 1, 0.4)
    saved = sweep.save(first)
    sweep.fail(first, lost)
    assert sweep.of(first).status is Status.WAITING
    again = sweep.start()
    assert (again.config["number"], again.config["checkpoint"], again.config["attempt"]) == (0, str(saved), 1)
    sweep.fail(again, lost)
    view = sweep.of(first)
    assert (view.status, view.attempts) == (Status.FAILED, 2)
    assert view.reason == "The actor died unexpectedly before finishing this task."
    assert sweep.start().config["number"] == 1


def test_a_trial_that_gets_further_each_time_is_tried_as_often_as_it_takes(sweep: Sweep) -> None:
    for unit in range(1, 5):
        trial = sweep.start()
        assert trial.config["number"] == 0
        sweep.report(trial, unit, 0.4)
        sweep.fail(trial, RuntimeError("lost"))
    assert sweep.of(trial).status is Status.WAITING


def test_units_that_are_trained_again_are_neither_told_nor_evaluated_twice(sweep: Sweep) -> None:
    trial = sweep.start()
    for unit, value in ((1, 0.4), (2, 0.5)):
        sweep.report(trial, unit, value)
    sweep.fail(trial, RuntimeError("lost"))
    again = sweep.start()
    sweep.report(again, 1, 0.41)
    assert sweep.stored()[0].intermediate_values == {1: 0.4, 2: 0.5}
    assert (sweep.of(again).unit, sweep.of(again).score, sweep.of(again).seconds) == (1, 0.41, 6.0)


def test_a_newer_state_replaces_the_older_one(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    first = sweep.save(trial)
    sweep.report(trial, 2, 0.5)
    second = sweep.save(trial, 1)
    assert not first.exists()
    assert sweep.of(trial).checkpoint == second.relative_to(sweep.folder).as_posix()
    assert sweep.of(trial).checkpoint_bytes == sum(path.stat().st_size for path in second.iterdir())


def test_only_the_best_trials_that_are_over_keep_their_weights(sweep: Sweep) -> None:
    folders = []
    for value in (0.3, 0.5, 0.4):
        trial = sweep.start()
        sweep.report(trial, 1, value)
        folders.append(sweep.save(trial))
        sweep.complete(trial)
    running = sweep.start()
    sweep.report(running, 1, 0.1)
    folders.append(sweep.save(running))
    lost = sweep.start()
    sweep.report(lost, 1, 0.9)
    folders.append(sweep.save(lost))
    sweep.fail(lost, diverged())
    whole = ["handclip_best.pth", "handclip_final.pth", "training_log.csv"]
    log = ["training_log.csv"]
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [log, whole, log, whole, log]
    assert sweep.ready.all_trials.winner is not None
    assert sweep.ready.all_trials.winner.score == 0.5


def test_the_leaderboard_on_disk_follows(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    sweep.callback.on_step_end()
    (row,) = sweep.leaderboard()
    assert (row["map"], row["status"]) == ("0.400000", "running")


def test_an_interrupted_sweep_ends_between_two_steps_and_leaves_running_trials_open(sweep: Sweep) -> None:
    done, running = sweep.start(), sweep.start()
    for trial in (done, running):
        sweep.report(trial, 1, 0.4)
    sweep.complete(done)
    sweep.stop_requested = True
    with pytest.raises(Interrupted):
        sweep.callback.on_step_end()
    sweep.callback.close("interrupted")
    assert [row["status"] for row in sweep.leaderboard()] == ["complete", "interrupted"]
    assert [trial.state for trial in sweep.stored()] == [TrialState.COMPLETE, TrialState.WAITING]


def test_a_driver_without_news_leaves_a_sign_of_life_once_a_minute(sweep: Sweep) -> None:
    before = len(read_journal(sweep.folder / FILE))
    for _ in range(10):
        sweep.clock.now += 20
        sweep.callback.on_step_end()
    assert [event.event for event in read_journal(sweep.folder / FILE)[before:]] == ["alive"] * 3


def test_a_storage_that_stays_away_ends_the_sweep_with_one_line_after_the_step(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = sweep.start()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(patience, "RETRY_FOR_S", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_write", full)
        sweep.report(trial, 1, 0.4)
        sweep.report(trial, 2, 0.5)
    with pytest.raises(InputError, match=r"journal\.jsonl: cannot be written \(No space left on device\)"):
        sweep.callback.on_step_end()
    assert sweep.of(trial).unit == 0, "what could not be written down has not happened"


def test_a_storage_that_comes_back_loses_nothing(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, calls = sweep.start(), []
    write = Journal._write

    def flaky(self: Journal, line: bytes, tip: Tip) -> None:
        calls.append(line)
        if len(calls) < 3:
            self.close()
            with (sweep.folder / FILE).open("ab") as torn:
                torn.write(line[:10])
            raise OSError(5, "Input/output error")
        write(self, line, tip)

    monkeypatch.setattr(Journal, "_write", flaky)
    sweep.report(trial, 1, 0.4)
    assert sweep.of(trial).unit == 1
    assert read_journal(sweep.folder / FILE)[-1].event == "validated"
