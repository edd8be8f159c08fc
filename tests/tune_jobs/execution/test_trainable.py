import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from handclip_core.engine.loop import Step
from handclip_core.engine.phase import Optim
from handclip_core.strategies import Adapters, ClipReid, Full, LinearProbe, ZeroShot
from handclip_core.strategies.rates import Rates
from tests.tune_jobs.alone import BATCH, Config, Start, full, record_of
from tests.tune_jobs.simulated import ROOM
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.trainable import (
    FIRST_TOLD_S,
    HandTrial,
    LostStateError,
    UnitWatch,
    folder_of,
    measured_key,
    number_of,
)


def weights(trial: HandTrial, folder: Path) -> dict[str, torch.Tensor]:
    trial.save_checkpoint(str(folder))
    loaded: dict[str, torch.Tensor] = torch.load(folder / "handclip_final.pth", weights_only=True)
    return loaded


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_is_a_budget_unit_and_the_last_one_says_so(worker_config: Config, start_trial: Start) -> None:
    trial = start_trial(worker_config(full()))
    first, second = trial.train(), trial.train()
    assert [first["unit"], second["unit"]] == [1, 2]
    assert [first["done"], second["done"]] == [False, True]
    assert second["best"]["map"] == max(first["metrics"]["map"], second["metrics"]["map"])
    assert second["params_trained"] > 1000
    assert second["images"] > first["images"]
    assert {"map", "cmc1", "retention"} <= second["metrics"].keys()
    assert {"loss/identity", "lr/backbone", "lr/head"} <= second["training"].keys()


def test_units_that_cannot_move_retrieval_are_saved_without_scores_and_have_their_own_time(
    worker_config: Config, start_trial: Start, tmp_path: Path
) -> None:
    values = worker_config(ClipReid(optim=Optim(batch_size=BATCH)), budget=3, every_s=0.0)
    trial = start_trial(values)
    first = trial.train()
    assert (first["unit"], first["evaluated"], first["done"]) == (1, False, False)
    assert first["should_checkpoint"]
    assert first["training"]["loss/image_text"] > 0
    assert (first["metrics"], first["best"]) == ({}, {})
    assert first["seconds"] >= record_of(trial).log[-1]["train_s"]
    assert first["params_trained"] > 0
    trial.save_checkpoint(str(tmp_path / "state"))
    again = start_trial({**values, "checkpoint": str(tmp_path / "state")})
    results = [again.train(), again.train()]
    assert [(result["unit"], result["evaluated"]) for result in results] == [(2, False), (3, True)]
    taken = [row["train_s"] for row in record_of(again).log[1:]]
    assert all(result["seconds"] >= train_s for result, train_s in zip(results, taken, strict=True))
    assert results[1]["done"]


def test_the_baseline_is_done_after_one_step(worker_config: Config, start_trial: Start) -> None:
    result = start_trial(worker_config(ZeroShot())).train()
    assert (result["unit"], result["done"], result["params_trained"]) == (0, True, 0)


def test_drawn_rates_reach_the_optimiser_of_a_running_trial(worker_config: Config, start_trial: Start) -> None:
    optim = Optim(lr=3.21e-4, weight_decay=0.0456, batch_size=BATCH)
    drawn = Full(rates=Rates.PUBLISHED, optim=optim, head_lr_scale=7.0, layer_decay=0.5)
    trial = start_trial(worker_config(drawn))
    trial.train()
    assert trial._drive is not None
    assert trial._drive._last is not None
    optimizer = trial._drive._last.state.optimizer
    assert optimizer is not None
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["head"] == pytest.approx(3.21e-4 * 7)
    trunk = sorted({rate for name, rate in rates.items() if name.startswith("backbone.")}, reverse=True)
    assert trunk[:3] == pytest.approx([3.21e-4, 3.21e-4 / 2, 3.21e-4 / 4])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0456, 0.0}


def test_a_result_does_not_depend_on_what_ran_before_in_the_process(
    worker_config: Config, start_trial: Start, tmp_path: Path
) -> None:
    fresh = start_trial(worker_config(full(), seed=5))
    alone = fresh.train()
    used = start_trial(worker_config(Adapters(), seed=1))
    used.train()
    torch.set_num_threads(2)
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert used.reset(worker_config(full(), seed=5))
    after = used.train()
    assert torch.get_num_threads() == 1
    assert (after["metrics"], after["training"]) == (alone["metrics"], alone["training"])
    assert equal(weights(fresh, tmp_path / "a"), weights(used, tmp_path / "b"))


def test_a_trial_that_moves_to_another_process_ends_with_the_same_weights(
    worker_config: Config, start_trial: Start, tmp_path: Path
) -> None:
    settings = worker_config(full(), budget=3)
    whole = start_trial(settings)
    results = [whole.train() for _ in range(3)]
    cut = start_trial(settings)
    cut.train()
    cut.save_checkpoint(str(tmp_path / "saved"))
    moved = start_trial({**settings, "checkpoint": str(tmp_path / "saved")})
    resumed = [moved.train() for _ in range(2)]
    assert [result["unit"] for result in resumed] == [2, 3]
    assert [result["best"] for result in resumed] == [result["best"] for result in results[1:]]
    assert equal(weights(whole, tmp_path / "whole"), weights(moved, tmp_path / "moved"))


def test_a_trial_that_is_taken_up_at_its_end_is_over_and_keeps_its_state(
    worker_config: Config, start_trial: Start, tmp_path: Path
) -> None:
    settings = worker_config(ZeroShot())
    done = start_trial(settings)
    done.train()
    done.save_checkpoint(str(tmp_path / "saved"))
    again = start_trial({**settings, "checkpoint": str(tmp_path / "saved")})
    assert again.train()["done"] is True
    again.save_checkpoint(str(tmp_path / "again"))
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(
        p.name for p in (tmp_path / "saved").iterdir()
    )


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_state_that_cannot_be_read_is_told_from_other_failures(
    worker_config: Config, start_trial: Start, tmp_path: Path, damage: str
) -> None:
    settings = worker_config(full())
    trial = start_trial(settings)
    trial.train()
    trial.save_checkpoint(str(tmp_path / "saved"))
    victim = tmp_path / "saved" / "handclip_optimizer.pth"
    victim.unlink() if damage == "missing" else victim.write_bytes(victim.read_bytes()[:100])
    again = start_trial({**settings, "checkpoint": str(tmp_path / "saved")})
    with pytest.raises(LostStateError, match=r"handclip_optimizer\.pth"):
        again.train()


def test_states_are_saved_once_so_many_seconds_have_been_trained(worker_config: Config, start_trial: Start) -> None:
    always, never = start_trial(worker_config(full(), every_s=0.0)), start_trial(worker_config(full(), every_s=1e9))
    assert always.train()["should_checkpoint"] is True
    assert never.train()["should_checkpoint"] is False


def test_two_processes_for_one_trial_do_not_share_a_folder(worker_config: Config, start_trial: Start) -> None:
    settings = worker_config(LinearProbe())
    spare, used = start_trial(settings), start_trial(settings)
    spare._logdir = used._logdir
    spare.reset_config(settings)
    spare.cleanup()
    assert used.train()["unit"] == 1


def test_a_trial_that_is_over_leaves_no_files(worker_config: Config, start_trial: Start) -> None:
    trial = start_trial(worker_config(LinearProbe()))
    trial.train()
    left = trial._folder
    assert left is not None
    assert any(left.iterdir())
    trial.reset_config(worker_config(LinearProbe()))
    assert not left.exists()


def test_the_config_names_number_folder_and_strategy(worker_config: Config) -> None:
    class Trial:
        config: dict[str, Any]

    trial = Trial()
    trial.config = worker_config(full())
    assert (number_of(trial), folder_of(trial)) == (3, "0003-full")
    assert trial.config["arm"] == "full"


@pytest.mark.ray
def test_the_driver_hears_how_far_a_first_unit_is_and_nothing_of_it_stays_on_the_cluster(
    ray_cluster: None, worker_config: Config
) -> None:
    del ray_cluster
    config, now, nodes = worker_config(full()), [0.0], RayNodes(ROOM)
    watch = UnitWatch(measured_key(config), clock=lambda: now[0])

    def steps(images: int, *, seconds: float) -> dict[str, Any] | None:
        now[0] += seconds
        watch(Step("full", 1, 40, images, 128, torch.tensor(2.5), {}))
        return nodes.measured(config)

    assert steps(256 + 16, seconds=7.0) is None, "of a run that is taken up after two units"
    assert steps(256 + 32, seconds=FIRST_TOLD_S - 1) is None
    assert steps(256 + 48, seconds=1.0) == {"images": 48, "unit_images": 128, "left_s": 80 / (32 / FIRST_TOLD_S)}
    assert nodes.measured(config) is None
    assert steps(256 + 64, seconds=FIRST_TOLD_S - 1) is None
    assert steps(256 + 80, seconds=1.0) == {"images": 80, "unit_images": 128, "left_s": 48 / (64 / FIRST_TOLD_S / 2)}
    assert steps(256 + 128, seconds=100.0) is None, "the unit has come to its end"
    assert ray.experimental.internal_kv._internal_kv_list(b"", namespace=b"handclip-measured") == []


def test_a_trial_that_tells_has_the_same_results(worker_config: Config, start_trial: Start) -> None:
    config = worker_config(full())
    silent, telling = start_trial(config).train(), start_trial(config | {"tells": True}).train()
    assert silent["metrics"] == telling["metrics"]
