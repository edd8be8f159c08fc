import csv
import threading
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune import Checkpoint

from handclip_core.engine.objective import DivergedError
from handclip_core.evaluation.protocol import METRICS
from handclip_core.experiment import Experiment
from tune_jobs.brackets import RungTable
from tune_jobs.event_logs import EventLogs
from tune_jobs.interruption import Interrupted
from tune_jobs.recorder import Recorder
from tune_jobs.records import Records, Status, TrialRecord
from tune_jobs.scheduler import RungScheduler
from tune_jobs.study import SweepStudy


class Ended:
    """A display that remembers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def ended(self, record: TrialRecord) -> None:
        self.numbers.append(record.number)

    def tick(self) -> None:
        pass


class Sweep:
    """A recorder with everything around it, driven as Tune would."""

    def __init__(self, folder: Path, *, keep: int = 1) -> None:
        self.folder = folder
        self.records = Records()
        self.study = SweepStudy(None, name="s", strategies=("full", "adapters"), seed=0, startup=5)
        self.scheduler = RungScheduler(RungTable(grace=1, reduction=3, budget=8))
        self.display = Ended()
        self.stop_wanted = threading.Event()
        self.recorder = Recorder(
            folder,
            records=self.records,
            study=self.study,
            scheduler=self.scheduler,
            logs=EventLogs(folder / "tensorboard", ("strategy/optim/lr",)),
            display=self.display,
            keep=keep,
            stop_wanted=self.stop_wanted,
        )

    def start(self) -> Any:
        asked = self.study.ask()
        assert asked is not None
        experiment = Experiment(strategy=asked.strategy)
        record = TrialRecord(asked.number, asked.strategy.name, asked.params, experiment)
        trial = SimpleNamespace(trial_id=f"id{asked.number}", pickled_error_file=None, error_file=None)
        self.records.by_id[trial.trial_id] = record
        self.recorder.on_trial_start(trial=trial)
        return trial

    def report(self, trial: Any, unit: int, value: float, *, best: float | None = None) -> None:
        result = dict.fromkeys(METRICS, value) | {"unit": unit, "images": unit * 100, "loss/identity": 1.0 / unit}
        best = value if best is None else best
        extra = {"best_map": best, "best_cmc1": best / 2, "best_unit": 1, "params_trained": 10, "step_s": 2.0}
        self.recorder.on_trial_result(trial=trial, result=result | extra)

    def save(self, trial: Any) -> Path:
        folder = self.folder / "trials" / str(trial.trial_id)
        folder.mkdir(parents=True)
        for name in ("handclip_best.pth", "handclip_final.pth", "training_log.csv"):
            (folder / name).write_text(name)
        self.recorder.on_checkpoint(trial=trial, checkpoint=Checkpoint.from_directory(folder))
        return folder

    def of(self, trial: Any) -> TrialRecord:
        record: TrialRecord = self.records.by_id[trial.trial_id]
        return record

    def stored(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.study.trials


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def failed(sweep: Sweep, error: BaseException) -> Any:
    trial = sweep.start()
    trial.pickled_error_file = str(sweep.folder / f"{trial.trial_id}.pkl")
    trial.error_file = str(sweep.folder / f"{trial.trial_id}.txt")
    Path(trial.pickled_error_file).write_bytes(cloudpickle.dumps(error))
    Path(trial.error_file).write_text("the whole traceback")
    sweep.recorder.on_trial_error(trial=trial)
    return trial


def test_a_finished_trial_is_complete_with_the_score_of_its_best_weights(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.6)
    sweep.report(trial, 2, 0.5, best=0.6)
    sweep.recorder.on_trial_complete(trial=trial)
    record, stored = sweep.of(trial), sweep.stored()[0]
    assert (record.status, record.unit, record.map, record.cmc1) == (Status.COMPLETE, 2, 0.6, 0.3)
    assert (record.seconds, record.params_trained) == (4.0, 10)
    assert (stored.state, stored.value, stored.intermediate_values) == (TrialState.COMPLETE, 0.6, {1: 0.6, 2: 0.5})
    assert stored.user_attrs["outcome"]["unit"] == 2
    assert sweep.display.numbers == [0]
    config = sweep.folder / "trials" / record.name / "config.json"
    assert Experiment.from_file(config) == record.experiment


def test_a_trial_that_the_rungs_ended_is_pruned(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    sweep.scheduler.stopped.add(trial.trial_id)
    sweep.recorder.on_trial_complete(trial=trial)
    assert sweep.of(trial).status is Status.STOPPED
    assert sweep.stored()[0].state is TrialState.PRUNED
    assert sweep.stored()[0].intermediate_values == {1: 0.4}


def test_a_score_that_is_not_a_number_is_a_failure(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, nan)
    sweep.recorder.on_trial_complete(trial=trial)
    assert sweep.of(trial).reason == "validation mAP is not a number"
    assert sweep.stored()[0].state is TrialState.FAIL


def test_a_trial_that_raises_fails_with_its_reason_and_the_traceback_is_kept(sweep: Sweep) -> None:
    error = RayTaskError("train", "traceback", DivergedError("the loss diverged at step 3\nmore")).as_instanceof_cause()
    trial = failed(sweep, error)
    record = sweep.of(trial)
    assert (record.status, record.reason) == (Status.FAILED, "DivergedError: the loss diverged at step 3")
    assert sweep.stored()[0].state is TrialState.FAIL
    assert sweep.stored()[0].user_attrs["reason"] == record.reason
    assert (sweep.folder / "trials" / record.name / "error.txt").read_text() == "the whole traceback"


def test_a_lost_worker_fails_with_what_ray_says_of_it(sweep: Sweep) -> None:
    trial = failed(sweep, RuntimeError("The actor died unexpectedly before finishing this task.\n\tclass_name: X"))
    assert sweep.of(trial).reason == "The actor died unexpectedly before finishing this task."


def test_only_the_best_trials_that_are_over_keep_their_weights(sweep: Sweep) -> None:
    folders = []
    for value in (0.3, 0.5, 0.4):
        trial = sweep.start()
        sweep.report(trial, 1, value)
        folders.append(sweep.save(trial))
        sweep.recorder.on_trial_complete(trial=trial)
    running = sweep.start()
    sweep.report(running, 1, 0.1)
    folders.append(sweep.save(running))
    lost = failed(sweep, RuntimeError("lost"))
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [
        ["training_log.csv"],
        ["handclip_best.pth", "handclip_final.pth", "training_log.csv"],
        ["training_log.csv"],
        ["handclip_best.pth", "handclip_final.pth", "training_log.csv"],
    ]
    assert sweep.records.winner is not None
    assert sweep.records.winner.map == 0.5
    assert sweep.of(lost).checkpoint is None


def test_the_leaderboard_on_disk_follows(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    sweep.recorder.on_step_end()
    with (sweep.folder / "leaderboard.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["map"], row["status"]) == ("0.400000", "running")


def test_an_interrupted_sweep_writes_before_it_ends_and_leaves_running_trials_open(sweep: Sweep) -> None:
    done, running, waiting = sweep.start(), sweep.start(), sweep.start()
    for trial in (done, running):
        sweep.report(trial, 1, 0.4)
    sweep.recorder.on_trial_complete(trial=done)
    sweep.of(waiting).status = Status.WAITING
    sweep.stop_wanted.set()
    with pytest.raises(Interrupted):
        sweep.recorder.on_step_end()
    with (sweep.folder / "leaderboard.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["complete", "interrupted", "interrupted"]
    assert [trial.state for trial in sweep.stored()] == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]


def test_a_restarted_trial_goes_on_in_the_same_record(sweep: Sweep) -> None:
    trial = sweep.start()
    sweep.report(trial, 1, 0.4)
    sweep.recorder.on_trial_start(trial=trial)
    sweep.report(trial, 2, 0.5)
    assert (sweep.of(trial).status, sweep.of(trial).unit, sweep.of(trial).seconds) == (Status.RUNNING, 2, 4.0)
