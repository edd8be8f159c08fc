"""What Tune is told, and what becomes of that in it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from tests.tune_jobs.alone import ROOM
from tune_jobs.execution import tune_run
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.train_fn import train_trial
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.storage.location import BucketLocation, StorageLocation

PARTS: dict[str, Any] = {"searcher": "a searcher", "scheduler": "a scheduler", "callback": "a callback"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each call of Tune was told."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "run", lambda trainable, **given: found.append({"runs": trainable, **given}))
    return found


def run(told: list[dict[str, Any]], trial_resources: TrialResources, where: StorageLocation) -> dict[str, Any]:
    tune_run.run_trials(where, trial_resources, **PARTS)
    (found,) = told
    return found


def test_trials_of_one_worker_share_processes_and_reserve_their_place(
    told: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = run(told, replace(ROOM, cpus=3, gpus=0.5), tmp_path)
    assert (found["runs"], found["reuse_actors"], found["checkpoint_config"].checkpoint_at_end) == (
        HandTrial,
        True,
        True,
    )
    assert found["resources_per_trial"] == tune.PlacementGroupFactory([{"CPU": 3.0, "GPU": 0.5}])


def test_a_trial_of_several_workers_is_a_run_of_ray_train_which_reserves_their_places(
    told: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = run(told, replace(ROOM, cpus=3, workers=2), tmp_path)
    assert (found["runs"], found["reuse_actors"], found["checkpoint_config"].checkpoint_at_end) == (
        train_trial,
        False,
        False,
    )
    assert "CPU" not in found["resources_per_trial"].required_resources


@pytest.mark.parametrize(("most", "at_a_time"), [(None, tune_run.MOST), (3, 3)])
def test_the_searcher_says_how_many_trials_there_are_and_settings_how_many_at_most_at_a_time(
    told: list[dict[str, Any]], tmp_path: Path, most: int | None, at_a_time: int
) -> None:
    found = run(told, replace(ROOM, most=most), tmp_path)
    assert (found["num_samples"], found["max_concurrent_trials"]) == (-1, at_a_time)
    assert (found["search_alg"], found["scheduler"], found["callbacks"]) == (
        "a searcher",
        "a scheduler",
        ["a callback"],
    )
    assert found["raise_on_failed_trial"] is False, "that a trial failed is a result"


def test_trials_lie_in_the_sweeps_folder_or_bucket(told: list[dict[str, Any]], tmp_path: Path) -> None:
    found = run(told, ROOM, tmp_path / "sweep")
    assert (found["storage_path"], found["name"]) == (str(tmp_path / "sweep"), "trials")
    told.clear()
    bucket = BucketLocation(f"file://{tmp_path}/bucket") / "sweep"
    assert run(told, ROOM, bucket)["storage_path"] == f"{tmp_path}/bucket/sweep"
    one: Any = type("Trial", (), {"config": {"folder": "0003-full"}})
    assert found["trial_dirname_creator"](one) == "0003-full"
