"""Training in one process: what it says beside the lines of its units."""

import json
from datetime import datetime
from pathlib import Path

import pytest
import torch

from handclip_core.documents import read_document
from handclip_core.errors import InputError
from handclip_core.local import TEXT_LOG, summary, train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.measure import View
from handclip_core.reports.report import compare_runs, evaluate_run
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, FINAL, HISTORY, METRICS, load_tensors
from handclip_core.strategies import LinearProbe, SequentialEWC, Strategy
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")


@pytest.mark.parametrize("lr", [1e-9, 1e-1])
def test_a_rate_that_moves_nothing_is_named_half_way(
    lr: float, tmp_path: Path, tiny_backbones: dict[str, BackboneSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment.model_validate(
        {
            "strategy": {"name": "full", "rates": "published", "optim": {"lr": lr, "batch_size": 12}},
            "data": TINY_DATA,
            "backbone": tiny_backbones["vit"],
            "budget": 4,
        }
    )
    train_into(tmp_path / "run", experiment, device=CPU)
    printed = capsys.readouterr().out.splitlines()
    kept = [one.partition("  ") for one in (tmp_path / "run" / TEXT_LOG).read_text().splitlines()]
    assert [text for _, _, text in kept] == printed
    assert all(datetime.fromisoformat(at).tzinfo for at, _, _ in kept)
    history = json.loads((tmp_path / "run" / HISTORY).read_text())
    assert [row["unit"] for row in history] == [1, 2, 3, 4]
    assert all(row["val_loss"] > 0 for row in history)
    assert printed.count(Identities().metrics.hardly_moved) == (lr < 1e-6)
    if lr < 1e-6:
        assert printed.index(Identities().metrics.hardly_moved) == 2


def test_a_run_that_ends_before_its_budget_says_why(
    tmp_path: Path, tiny_backbones: dict[str, BackboneSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    still = {"name": "full", "rates": "published", "optim": {"lr": 1e-9, "batch_size": 12}}
    asked = {"strategy": still, "data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 4, "patience": 2}
    train_into(tmp_path / "run", Experiment.model_validate(asked), device=CPU)
    said = "ended after unit 3 of 4: 2 validations without a better one than unit 1 (patience)"
    assert capsys.readouterr().out.splitlines()[-1] == said


@pytest.mark.parametrize("strategy", [LinearProbe(), SequentialEWC(fisher_samples=3)], ids=["probe", "sequence"])
def test_nobody_who_was_trained_on_is_scored(
    strategy: Strategy, tiny_context: ExperimentContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Experiment(
        strategy=strategy, data=TINY_DATA, backbone=tiny_context.settings, budget=2, seed=1, part="train_all"
    )
    folder = train_into(tmp_path / "run", settings, device=CPU)
    assert not folder.evaluated
    assert "map" not in " ".join(folder.log[0])
    assert "mAP" not in capsys.readouterr().out
    assert "there is no score" in summary(folder)
    weights = [load_tensors(tmp_path / "run" / name) for name in (BEST, FINAL)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    assert "best" not in read_document(tmp_path / "run" / METRICS)
    seen = "was trained on the validation identities too; score it with --split test"
    with pytest.raises(InputError, match=seen):
        evaluate_run(tmp_path / "run", device=CPU, view=View("val"))
    with pytest.raises(InputError, match=seen):
        compare_runs([tmp_path / "run"], device=CPU, view=View("val"))
    report = evaluate_run(tmp_path / "run", device=CPU, view=View("test"))
    assert report.values["verification"]["points"] == ()
    assert "give no threshold" in report.values["open_set"]
    assert report.values["scores"]["overall"]["map"]["mean"] > 0
