"""Trials of several workers: the same results as of one, none is lost with a worker, and none keeps its places."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import LOG, read_log
from handclip_core.strategies import AspectSpecific, ClipReid, LinearProbe, SequentialEWC, Strategy, ZeroShot
from tests.conftest import TINY_DATA
from tests.handclip_core.strategies.test_strategies_contract import CPU, SERVING, quick, weights_of_each
from tests.limits import LIMIT_S
from tune_jobs.config.settings import EarlyStopping, SweepSettings
from tune_jobs.execution.train_fn import fit, train_fn
from tune_jobs.execution.train_internals import remove_abandoned_groups
from tune_jobs.execution.trainable import STATES_OF_AN_ATTEMPT
from tune_jobs.lifecycle.run import Outcome, sweep
from tune_jobs.scheduling.early_stopping import StoppingDecisions
from tune_jobs.state.events import Saved, Started, Trained, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status
from tune_jobs.storage.location import open_location

pytestmark = pytest.mark.ray
DIFFERENT: tuple[type[Strategy], ...] = (ZeroShot, LinearProbe, SequentialEWC, AspectSpecific, ClipReid)
"""They differ in what a worker does: nothing, cached activations, phases with a penalty, experts, prompts."""


def settings(backbones: dict[str, BackboneSettings], storage: Path, **changed: Any) -> SweepSettings:
    values: dict[str, Any] = {
        "name": "workers",
        "data": TINY_DATA,
        "backbone": backbones["vit"],
        "strategies": ("linear_probe", "full"),
        "trials": 2,
        "budget": 2,
        "early_stopping": EarlyStopping(kind="none"),
        "storage": storage,
    }
    return SweepSettings(**values | changed)


def curves(outcome: Outcome) -> list[list[float]]:
    return [list(view.curve.values()) for view in sorted(outcome.all_trials.all(), key=lambda one: one.number)]


def test_two_workers_give_the_scores_of_one_though_more_trials_wait_than_fit(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    alone = sweep(settings(tiny_backbones, tmp_path / "one", resources={"concurrent": 1}))
    shared = sweep(settings(tiny_backbones, tmp_path / "two", resources={"workers": 2, "waiting": 1}))
    assert [len(curve) for curve in curves(shared)] == [2, 2]
    for one, two in zip(curves(alone), curves(shared), strict=True):
        assert two == pytest.approx(one, abs=2e-3)
    for name in ("handclip_best.pth", "handclip_final.pth", "training_log.csv", "metrics.json"):
        assert (shared.folder / "best" / name).exists()
    known = {view.checkpoint for view in shared.all_trials.all()}
    assert {
        path.relative_to(shared.folder).as_posix() for path in shared.folder.glob("trials/*/checkpoint_0*")
    } == known


@pytest.mark.parametrize("kinds", [DIFFERENT, pytest.param(SERVING, marks=pytest.mark.faults)], ids=len)
def test_two_workers_train_every_strategy_as_one_process_does(
    ray_cluster: None,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kinds: tuple[type[Strategy], ...],
) -> None:
    """Scores of whole runs, and the weights of short ones in double precision, within one run of Ray Train.

    That of two processes without Ray has the weights of every strategy in every run of the tests.
    """
    del ray_cluster
    backbone = tiny_backbones["vit"]
    experiments = [Experiment(strategy=quick(kind), data=TINY_DATA, backbone=backbone, budget=2) for kind in kinds]
    config = {
        "experiments": [experiment.model_dump(mode="json") for experiment in experiments],
        "backbone": backbone.model_dump(mode="json"),
        "weights": str(tmp_path / "weights.pt"),
        **{"workers": 2, "device": "cpu", "threads": 1, "gpus": 0.0, "checkpoint": None, "checkpoint_every_s": 1e9},
    }
    monkeypatch.setattr("tune_jobs.execution.train_fn.train_fn", every_strategy)
    fit(config, open_location(tmp_path), name="run")
    for number, experiment in enumerate(experiments):
        alone = drive(experiment, tmp_path / "alone" / str(number), device=CPU)
        last = list(alone)[-1]
        saved = tmp_path / "run" / f"checkpoint_{number * STATES_OF_AN_ATTEMPT + last.unit:09d}"
        scores = [row.get("map") for row in read_log(saved / LOG)]
        assert scores == pytest.approx([row.get("map") for row in alone.record.log], abs=2e-3), experiment.strategy.name
    shared = torch.load(tmp_path / "weights.pt", weights_only=True)
    for name, weights in weights_of_each([kind for kind in kinds if kind.trains], backbone).items():
        for key, value in weights.items():
            torch.testing.assert_close(shared[name][key], value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")


def every_strategy(config: dict[str, Any]) -> None:
    """What each of the workers does."""
    kinds = []
    for number, experiment in enumerate(config["experiments"]):
        train_fn({**config, "experiment": experiment, "attempt": number})
        kinds.append(type(Experiment.model_validate(experiment).strategy))
    backbone = BackboneSettings.model_validate(config["backbone"])
    weights = weights_of_each([kind for kind in kinds if kind.trains], backbone)
    if ray.train.get_context().get_world_rank() == 0:
        torch.save(weights, config["weights"])


def test_a_trial_that_loses_a_worker_goes_on_from_its_checkpoint_and_counts_no_unit_twice(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    wanted = settings(
        tiny_backbones,
        tmp_path,
        strategies=("full",),
        trials=1,
        budget=16,
        resources={"workers": 2},
        checkpoint_every_s=0.0,
    )
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "workers", killed))
    killer.start()
    outcome = sweep(wanted)
    killer.join()
    (view,) = outcome.all_trials.all()
    assert killed, "the trial was over before anything could be killed"
    assert view.status is Status.COMPLETE
    assert view.attempts > 1
    assert list(view.curve) == list(range(1, 17))
    events = read_journal(tmp_path / "workers" / FILE)
    last = max(place for place, event in enumerate(events) if isinstance(event, Started))
    assert next(event.unit for event in events[last:] if isinstance(event, Validated)) > 1
    told = Counter(event.unit for event in events if isinstance(event, Validated | Trained))
    unsaved = told.total() - len(told)
    assert unsaved <= 1, "each unit is saved before the next one is told"
    saved = [event.checkpoint for event in events if isinstance(event, Saved)]
    assert len(set(saved)) == len(saved)


def kill_a_worker(folder: Path, killed: list[int]) -> None:
    """Once the trial has saved some units, end one of its workers."""
    journal = folder / FILE
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_text().count('"saved"') >= 2:
            break
        time.sleep(0.05)
    for pid in workers()[:1]:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


def workers() -> list[int]:
    """Processes that train, of this test session alone."""
    ours = f"HANDCLIP_CACHE={os.environ['HANDCLIP_CACHE']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::RayTrainWorker") and ours in environment.split(b"\0"):
            found.append(int(process.name))
    return found


@pytest.mark.faults
def test_a_trial_that_is_stopped_early_frees_its_places_for_the_next(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ray_cluster

    def stops(decisions: StoppingDecisions, *, trial: int, unit: int, **_: Any) -> bool:
        decisions.stopped[trial] = unit
        return False

    monkeypatch.setattr(StoppingDecisions, "goes_on", stops)
    outcome = sweep(
        settings(tiny_backbones, tmp_path, strategies=("full",), trials=2, budget=10_000, resources={"workers": 2})
    )
    assert [(view.status, list(view.curve)) for view in outcome.all_trials.all()] == [(Status.STOPPED, [1])] * 2
    known = {view.checkpoint for view in outcome.all_trials.all()}
    assert {
        path.relative_to(outcome.folder).as_posix() for path in outcome.folder.glob("trials/*/checkpoint_0*")
    } == known
    deadline = time.monotonic() + LIMIT_S
    while ray.available_resources().get("CPU") != 2 or workers():
        assert time.monotonic() < deadline, "the last trial still holds its places"
        remove_abandoned_groups()
        time.sleep(0.2)
