import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.train._internal.storage import StorageContext

from handclip_core.engine.phase import Optim
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import RunFolder
from handclip_core.strategies import Adapters, ClipReid, Full, LinearProbe, Strategy, ZeroShot
from handclip_core.strategies.rates import Rates
from tests.conftest import TINY_DATA
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.trainable import HandTrial, LostStateError, folder_of, number_of, trial_config
from tune_jobs.state.trials import TrialView
from tune_jobs.storage.retry import UnwritableError

Start = Callable[..., HandTrial]
BATCH = 16
ROOM = TrialResources(device="cpu", cpus=1, gpus=0.0, concurrent=1, num_nodes=1)


@pytest.fixture
def config(tiny_backbones: dict[str, BackboneSettings]) -> Callable[..., dict[str, Any]]:
    def build(strategy: Strategy, *, seed: int = 0, budget: int = 2, every_s: float = 60.0) -> dict[str, Any]:
        experiment = Experiment(
            strategy=strategy, data=TINY_DATA, backbone=tiny_backbones["vit"], seed=seed, budget=budget
        )
        view = TrialView(3, strategy.name, {}, experiment)
        return trial_config(view, Path("/sweep"), trial_resources=ROOM, checkpoint_every_s=every_s)

    return build


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Trials outside any cluster, their folders below ``tmp_path``."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    started: list[HandTrial] = []

    def begin(config: dict[str, Any]) -> HandTrial:
        started.append(HandTrial(config))
        return started[-1]

    yield begin
    for trial in started:
        trial.stop()


def full(lr: float = 1e-3) -> Full:
    return Full(optim=Optim(lr=lr, batch_size=BATCH))


def weights(trial: HandTrial, folder: Path) -> dict[str, torch.Tensor]:
    trial.save_checkpoint(str(folder))
    loaded: dict[str, torch.Tensor] = torch.load(folder / "handclip_final.pth", weights_only=True)
    return loaded


def record_of(trial: HandTrial) -> RunFolder:
    assert trial._drive is not None
    return trial._drive.record


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_is_a_budget_unit_and_the_last_one_says_so(config: Callable[..., Any], start: Start) -> None:
    trial = start(config(full()))
    first, second = trial.train(), trial.train()
    assert [first["unit"], second["unit"]] == [1, 2]
    assert [first["done"], second["done"]] == [False, True]
    assert second["best"]["map"] == max(first["metrics"]["map"], second["metrics"]["map"])
    assert second["params_trained"] > 1000
    assert second["images"] > first["images"]
    assert {"map", "cmc1", "retention"} <= second["metrics"].keys()
    assert {"loss/identity", "lr/backbone", "lr/head"} <= second["training"].keys()


def test_units_that_cannot_move_retrieval_are_saved_without_scores_and_have_their_own_time(
    config: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    values = config(ClipReid(optim=Optim(batch_size=BATCH)), budget=3, every_s=0.0)
    trial = start(values)
    first = trial.train()
    assert (first["unit"], first["evaluated"], first["done"]) == (1, False, False)
    assert first["should_checkpoint"]
    assert first["training"]["loss/image_text"] > 0
    assert (first["metrics"], first["best"]) == ({}, {})
    assert first["seconds"] >= record_of(trial).log[-1]["train_s"]
    assert first["params_trained"] > 0
    trial.save_checkpoint(str(tmp_path / "state"))
    again = start({**values, "checkpoint": str(tmp_path / "state")})
    results = [again.train(), again.train()]
    assert [(result["unit"], result["evaluated"]) for result in results] == [(2, False), (3, True)]
    taken = [row["train_s"] for row in record_of(again).log[1:]]
    assert all(result["seconds"] >= train_s for result, train_s in zip(results, taken, strict=True))
    assert results[1]["done"]


def test_the_baseline_is_done_after_one_step(config: Callable[..., Any], start: Start) -> None:
    result = start(config(ZeroShot())).train()
    assert (result["unit"], result["done"], result["params_trained"]) == (0, True, 0)


def test_drawn_rates_reach_the_optimiser_of_a_running_trial(config: Callable[..., Any], start: Start) -> None:
    optim = Optim(lr=3.21e-4, weight_decay=0.0456, batch_size=BATCH)
    drawn = Full(rates=Rates.PUBLISHED, optim=optim, head_lr_scale=7.0, layer_decay=0.5)
    trial = start(config(drawn))
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
    config: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    fresh = start(config(full(), seed=5))
    alone = fresh.train()
    used = start(config(Adapters(), seed=1))
    used.train()
    torch.set_num_threads(2)
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert used.reset(config(full(), seed=5))
    after = used.train()
    assert torch.get_num_threads() == 1
    assert (after["metrics"], after["training"]) == (alone["metrics"], alone["training"])
    assert equal(weights(fresh, tmp_path / "a"), weights(used, tmp_path / "b"))


def test_a_trial_that_moves_to_another_process_ends_with_the_same_weights(
    config: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    settings = config(full(), budget=3)
    whole = start(settings)
    results = [whole.train() for _ in range(3)]
    cut = start(settings)
    cut.train()
    cut.save_checkpoint(str(tmp_path / "saved"))
    moved = start({**settings, "checkpoint": str(tmp_path / "saved")})
    resumed = [moved.train() for _ in range(2)]
    assert [result["unit"] for result in resumed] == [2, 3]
    assert [result["best"] for result in resumed] == [result["best"] for result in results[1:]]
    assert equal(weights(whole, tmp_path / "whole"), weights(moved, tmp_path / "moved"))


def test_a_trial_that_is_taken_up_at_its_end_is_over_and_keeps_its_state(
    config: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    settings = config(ZeroShot())
    done = start(settings)
    done.train()
    done.save_checkpoint(str(tmp_path / "saved"))
    again = start({**settings, "checkpoint": str(tmp_path / "saved")})
    assert again.train()["done"] is True
    again.save_checkpoint(str(tmp_path / "again"))
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(
        p.name for p in (tmp_path / "saved").iterdir()
    )


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_state_that_cannot_be_read_is_told_from_other_failures(
    config: Callable[..., Any], start: Start, tmp_path: Path, damage: str
) -> None:
    settings = config(full())
    trial = start(settings)
    trial.train()
    trial.save_checkpoint(str(tmp_path / "saved"))
    victim = tmp_path / "saved" / "handclip_optimizer.pth"
    victim.unlink() if damage == "missing" else victim.write_bytes(victim.read_bytes()[:100])
    again = start({**settings, "checkpoint": str(tmp_path / "saved")})
    with pytest.raises(LostStateError, match=r"handclip_optimizer\.pth"):
        again.train()


def test_a_state_in_a_storage_that_is_away_is_waited_for(
    config: Callable[..., Any], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, storage = config(full()), tmp_path / "storage"
    trial = start(settings)
    trial.train()
    trial.save_checkpoint(str(storage / "trials" / "0003-full" / "checkpoint_000000"))
    again = start({**settings, "checkpoint": str(storage / "trials" / "0003-full" / "checkpoint_000000")})
    storage.rename(tmp_path / "away")
    storage.touch()

    def come_back(_: float) -> None:
        storage.unlink()
        (tmp_path / "away").rename(storage)

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", come_back)
    assert again.train()["unit"] == 2


def test_a_full_disk_is_waited_for_and_the_unit_is_logged_once(
    config: Callable[..., Any], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(config(full()))
    trial.train()
    view = record_of(trial)
    view.log[-1]["map"] = -1.0
    partial = view.folder / "handclip_best.pth.partial"
    partial.symlink_to("/dev/full")
    waits: list[float] = []

    def fit_trials(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            partial.unlink()

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", fit_trials)
    assert trial.train()["unit"] == 2
    assert len(waits) == 2
    assert [row["unit"] for row in view.log] == [1, 2]


def test_a_disk_that_stays_full_is_the_machines_failure(
    config: Callable[..., Any], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(config(full()))
    trial.train()
    view = record_of(trial)
    view.log[-1]["map"] = -1.0
    (view.folder / "handclip_best.pth.partial").symlink_to("/dev/full")
    monkeypatch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
    with pytest.raises(UnwritableError, match="No space left on device"):
        trial.train()


def test_states_are_saved_once_so_many_seconds_have_been_trained(config: Callable[..., Any], start: Start) -> None:
    always, never = start(config(full(), every_s=0.0)), start(config(full(), every_s=1e9))
    assert always.train()["should_checkpoint"] is True
    assert never.train()["should_checkpoint"] is False


def test_two_processes_for_one_trial_do_not_share_a_folder(config: Callable[..., Any], start: Start) -> None:
    settings = config(LinearProbe())
    spare, used = start(settings), start(settings)
    spare._logdir = used._logdir
    spare.reset_config(settings)
    spare.cleanup()
    assert used.train()["unit"] == 1


def test_a_trial_that_is_over_leaves_no_files(config: Callable[..., Any], start: Start) -> None:
    trial = start(config(LinearProbe()))
    trial.train()
    left = trial._folder
    assert left is not None
    assert any(left.iterdir())
    trial.reset_config(config(LinearProbe()))
    assert not left.exists()


def test_the_config_names_number_folder_and_strategy(config: Callable[..., Any]) -> None:
    class Trial:
        config: dict[str, Any]

    trial = Trial()
    trial.config = config(full())
    assert (number_of(trial), folder_of(trial)) == (3, "0003-full")
    assert trial.config["arm"] == "full"


@pytest.fixture
def stored(config: Callable[..., Any], start: Start, tmp_path: Path) -> HandTrial:
    """A trial that has saved its first unit in a sweep's folder, as Tune lets it, and has trained another."""
    (tmp_path / "sweep" / "trials").mkdir(parents=True)
    trial = start(config(full(), budget=3))
    trial._storage = StorageContext(str(tmp_path / "sweep"), "trials", trial_dir_name="0003-full")
    trial._storage._create_validation_file()
    trial.train()
    trial.save()
    trial.train()
    return trial


def saved_in(sweep: Path) -> dict[str, list[str]]:
    folders = sorted((sweep / "trials" / "0003-full").glob("checkpoint_*"))
    return {folder.name: sorted(path.name for path in folder.iterdir()) for folder in folders}


def test_a_storage_that_is_away_while_a_state_is_saved_is_waited_for(
    stored: HandTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, away = tmp_path / "sweep", tmp_path / "away"
    whole = saved_in(sweep)["checkpoint_000000"]
    sweep.rename(away)
    sweep.touch()

    def come_back(_: float) -> None:
        sweep.unlink()
        away.rename(sweep)

    monkeypatch.setattr("tune_jobs.storage.retry.time.sleep", come_back)
    stored.save()
    states = saved_in(sweep)
    assert len(states) == 2
    assert all(names == whole for names in states.values())


@pytest.mark.parametrize("copied", [False, True])
def test_a_save_that_fails_leaves_the_last_state_alone_and_no_half_of_another(
    stored: HandTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    before = saved_in(tmp_path / "sweep")

    def fail(*_: Any, **given: Any) -> None:
        if copied:
            (Path(given["destination"]) / "handclip_final.pth").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if copied:
        monkeypatch.setattr("ray.train._internal.storage._pyarrow_fs_copy_files", fail)
    else:
        monkeypatch.setattr(record_of(stored), "save_checkpoint", fail)
    monkeypatch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
    with pytest.raises(UnwritableError, match="No space left"):
        stored.save()
    assert saved_in(tmp_path / "sweep") == before


@pytest.mark.parametrize("cause", ["read", "load"])
def test_a_state_that_cannot_be_read_just_now_is_not_lost(
    config: Callable[..., Any], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    settings, saved = config(full()), tmp_path / "trials" / "0003-full" / "checkpoint_000000"
    trial = start(settings)
    trial.train()
    trial.save_checkpoint(str(saved))
    again = start({**settings, "checkpoint": str(saved)})
    name = "handclip_core.runs.run_folder.read_log" if cause == "read" else "torch.load"

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(name, fail)
        patch.setattr("tune_jobs.storage.retry.RETRY_FOR_S", 0.0)
        with pytest.raises(UnwritableError, match="cannot be read or written"):
            again.train()
    assert again.train()["unit"] == 2
