"""Whole sweeps on a small cluster."""

import csv
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from ray import cloudpickle

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import run
from handclip_core.runs.run_folder import read_experiment
from handclip_core.tasks import IDENTITIES
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings, load_settings
from tune_jobs.execution import tune_run
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.lifecycle.run import Outcome, resume, sweep
from tune_jobs.state.trial import Status

ROOT = Path(__file__).parents[2]
STRATEGIES = ("zero_shot", "linear_probe", "full", "sequential_ewc", "adapters")
BEST_FILES = {
    "config.json", "handclip_best.pth", "handclip_final.pth", "handclip_optimizer.pth", "query_embeddings.npy",
    "gallery_embeddings.npy", "training_log.csv", "history.json", "metrics.json", "scores.npz", "model.json",
    "open_clip_config.json", "validation.json", "baselines.json",
}  # fmt: skip


def tiny(backbones: dict[str, BackboneSettings], storage: Path, **changed: Any) -> SweepSettings:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": TINY_DATA,
        "backbone": backbones["vit"],
        "strategies": STRATEGIES,
        "trials": 7,
        "budget": 2,
        "early_stopping": EarlyStopping(grace=1),
        # A worker takes longer to start than these trials to run.
        "resources": Resources(concurrent=1),
        "mixtures": True,
        "storage": storage,
    }
    return SweepSettings(**values | changed)


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open() as file:
        return list(csv.DictReader(file))


def table(folder: Path) -> list[dict[str, str]]:
    """The leaderboard's trials; mixtures of trials have no number."""
    return [row for row in leaderboard(folder) if row["trial"]]


@pytest.fixture(scope="module")
def outcome(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """A sweep over all five strategies and two drawn trials."""
    del ray_cluster
    return sweep(tiny(tiny_backbones, tmp_path_factory.mktemp("runs")))


@pytest.mark.ray
def test_every_strategy_is_on_the_leaderboard_and_all_trials_have_ended(outcome: Outcome) -> None:
    rows = table(outcome.folder)
    assert {row["strategy"] for row in rows} == set(STRATEGIES)
    assert sorted(int(row["trial"]) for row in rows) == list(range(7))
    assert {row["status"] for row in rows} <= {"complete", "stopped"}
    everything = leaderboard(outcome.folder)
    assert [int(row["rank"]) for row in everything] == list(range(1, len(everything) + 1))
    assert any(row["status"].startswith("WiSE-FT") for row in everything), "mixtures of the best trials have joined"
    maps = [float(row["map"]) for row in everything]
    assert maps == sorted(maps, reverse=True)
    assert outcome.exit_code == 0


@pytest.mark.ray
def test_the_winners_config_alone_gives_its_score_again_without_ray(outcome: Outcome) -> None:
    best = outcome.folder / "best"
    progress = list(run(read_experiment(best), device=torch.device("cpu")))
    assert max(item.metrics["map"] for item in progress) == pytest.approx(
        float(table(outcome.folder)[0]["map"]), abs=1e-4
    )


@pytest.mark.ray
def test_the_winners_folder_is_complete_and_opens_without_running_code(outcome: Outcome) -> None:
    best = outcome.folder / "best"
    assert {path.name for path in best.iterdir()} == BEST_FILES
    results = IDENTITIES.load(best / "scores.npz")
    assert results.mean("map") == pytest.approx(float(table(outcome.folder)[0]["map"]), abs=1e-4)
    assert "Best so far" in (outcome.folder / "report.md").read_text("utf-8")
    for name in ("handclip_best.pth", "handclip_final.pth", "handclip_optimizer.pth"):
        assert torch.load(best / name, weights_only=True)
    query, gallery = np.load(best / "query_embeddings.npy"), np.load(best / "gallery_embeddings.npy")
    assert query.shape[1] == gallery.shape[1]
    assert len(query) > 0


@pytest.mark.ray
def test_the_study_agrees_with_the_leaderboard(outcome: Outcome) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{outcome.folder / 'study.db'}")
    rows = {int(row["trial"]): row for row in table(outcome.folder)}
    for trial in study.trials:
        row = rows[trial.number]
        assert trial.state.name == {"complete": "COMPLETE", "stopped": "PRUNED"}[row["status"]]
        assert max(trial.intermediate_values.values()) == pytest.approx(float(row["map"]), abs=1e-6)
        assert max(trial.intermediate_values) == int(row["unit"])
        lr = trial.params.get(f"{row['strategy']}/optim/lr")
        assert row["strategy/optim/lr"] == ("" if lr is None else str(lr))


@pytest.mark.ray
def test_every_trial_left_settings_a_log_and_events_and_only_the_best_their_weights(outcome: Outcome) -> None:
    folders = sorted(path.name for path in (outcome.folder / "trials").iterdir() if path.is_dir())
    assert folders == sorted(view.name for view in outcome.all_trials.all())
    assert sorted(path.name for path in (outcome.folder / "tensorboard").iterdir()) == [*folders, "best", "sweep"]
    for view in outcome.all_trials.all():
        assert read_experiment(outcome.folder / "trials" / view.name) == view.experiment
    weights = {path.parent.parent.name for path in (outcome.folder / "trials").glob("*/*/handclip_best.pth")}
    assert weights == {view.name for view in outcome.all_trials.ranked()[:3]}
    assert len(list((outcome.folder / "trials").glob("*/*/training_log.csv"))) == 7


@pytest.mark.ray
def test_the_written_settings_are_those_of_the_sweep(outcome: Outcome) -> None:
    written = load_settings(outcome.folder / "sweep.yaml")
    assert (written.name, written.trials, written.budget) == ("tiny", 7, 2)
    assert written.storage == outcome.folder.parent


@pytest.mark.ray
def test_a_finished_sweep_takes_up_trials_that_are_added_and_runs_no_other_again(outcome: Outcome) -> None:
    before = {row["trial"]: row for row in table(outcome.folder)}
    settings = load_settings(outcome.folder / "sweep.yaml")
    longer = resume(settings.model_copy(update={"trials": 9}), outcome.folder)
    rows = {row["trial"]: row for row in table(outcome.folder)}
    assert len(rows) == len(longer.all_trials.all()) == 9
    assert {row["status"] for row in rows.values()} <= {"complete", "stopped"}
    same = ("seconds", "map", "attempts", "status")
    assert [[rows[n][key] for key in same] for n in before] == [[before[n][key] for key in same] for n in before]
    assert load_settings(outcome.folder / "sweep.yaml").trials == 9


class Unlucky(HandTrial):
    """Raises for one strategy and loses the process of another."""

    def step(self) -> dict[str, Any]:
        name = self.config["arm"]
        if name == "full":
            raise RuntimeError("out of luck\nat length")
        if name == "adapters":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(tune_run, "HandTrial", Unlucky)


@pytest.mark.ray
def test_failing_trials_are_marked_with_their_reasons_and_the_sweep_goes_on(
    ray_cluster: None, unlucky: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster, unlucky
    strategies = ("full", "adapters", "zero_shot", "linear_probe")
    found = sweep(tiny(tiny_backbones, tmp_path, strategies=strategies, trials=4, retries=1))
    rows = {row["strategy"]: row for row in table(found.folder)}
    assert rows["full"]["status"] == "failed: RuntimeError: out of luck"
    assert rows["full"]["attempts"] == rows["adapters"]["attempts"] == "2"
    assert rows["adapters"]["status"].startswith("failed: The actor died")
    assert (rows["full"]["rank"], rows["full"]["map"]) == ("", "")
    assert {rows["zero_shot"]["status"], rows["linear_probe"]["status"]} == {"complete"}
    assert found.exit_code == 0
    assert "out of luck" in (found.folder / "trials" / "0000-full" / "error.txt").read_text()


@pytest.mark.ray
def test_a_sweep_in_which_all_trials_fail_says_why_and_ends_with_one(
    ray_cluster: None,
    unlucky: None,
    tiny_backbones: dict[str, BackboneSettings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del ray_cluster, unlucky
    stopping = EarlyStopping(grace=2)
    found = sweep(tiny(tiny_backbones, tmp_path, strategies=("full",), trials=1, retries=0, early_stopping=stopping))
    assert found.exit_code == 1
    assert not (found.folder / "best").exists()
    out = capsys.readouterr().out
    assert "trial 0 full failed: RuntimeError: out of luck" in out
    assert "no trial is stopped early: early_stopping.grace is 2, the budget 2" in out


@pytest.mark.ray
def test_a_sweep_with_nothing_to_search_ends_after_the_baseline(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    del ray_cluster
    found = sweep(tiny(tiny_backbones, tmp_path, strategies=("zero_shot",), trials=5))
    assert [view.status for view in found.all_trials.all()] == [Status.COMPLETE]
    assert found.all_trials.winner is not None
