"""A whole sweep over a small CLIP and an image tower of timm under Ray, and what its end leaves."""

import csv
from pathlib import Path

import optuna
import pytest

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.run_folder import read_experiment
from handclip_core.serving.model import open_run
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import EarlyStopping, Resources, SweepSettings
from tune_jobs.lifecycle.run import Outcome, resume, sweep

TOWER = BackboneSettings(name="timm/test_vit", pretrained="random")
STRATEGIES = ("zero_shot", "linear_probe", "clip_reid")


@pytest.fixture(scope="module")
def outcome(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    del ray_cluster
    settings = SweepSettings(
        name="two",
        data=TINY_DATA,
        backbone=(tiny_backbones["vit"], TOWER),
        strategies=STRATEGIES,
        trials=7,
        budget=2,
        early_stopping=EarlyStopping(grace=1),
        resources=Resources(concurrent=1),
        mixtures=True,
        storage=tmp_path_factory.mktemp("runs"),
    )
    return sweep(settings)


@pytest.mark.ray
def test_every_strategy_ran_on_every_backbone_that_it_can_use(outcome: Outcome) -> None:
    views = outcome.all_trials.all()
    assert [view.arm for view in views if view.origin == "default"] == [
        "zero_shot@vit", "zero_shot@test_vit", "linear_probe@vit", "linear_probe@test_vit", "clip_reid@vit",
    ]  # fmt: skip
    assert len(views) == 7
    assert all(view.status.over and view.has_score for view in views), [view.reason for view in views]
    assert outcome.exit_code == 0


@pytest.mark.ray
def test_what_it_leaves_says_which_and_the_winner_opens(outcome: Outcome) -> None:
    with (outcome.folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["backbone"] for row in rows} == {"vit", "test_vit"}
    mixed = [row["backbone"] for row in rows if not row["trial"]]
    assert mixed
    assert set(mixed) <= {"vit", "test_vit"}, "mixtures too are of one backbone"
    study = optuna.load_study(study_name="two", storage=f"sqlite:///{outcome.folder / 'study.db'}")
    assert {trial.user_attrs["backbone"] for trial in study.trials} == {"vit", "test_vit"}
    best = read_experiment(outcome.folder / "best")
    winner = outcome.all_trials.winner
    assert winner is not None
    assert best.backbone == winner.experiment.backbone
    assert open_run(outcome.folder / "best").width > 0


@pytest.mark.ray
def test_it_goes_on_with_more_trials(outcome: Outcome, capfd: pytest.CaptureFixture[str]) -> None:
    settings = SweepSettings.from_file(outcome.folder / "sweep.yaml").model_copy(update={"trials": 8})
    again = resume(settings, Path(outcome.folder))
    assert [view.arm for view in again.all_trials.all()][:7] == [view.arm for view in outcome.all_trials.all()]
    assert len(again.all_trials.trials) == 8
    assert "backbone" in capfd.readouterr().out
