"""The task's settings: what trials and units are ranked by."""

from pathlib import Path

import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.measure import View
from handclip_core.reports.report import evaluate_run
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST, load_run, load_tensors
from handclip_core.tasks.identities.task import Identities
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings


def test_map_comes_first_unless_another_figure_is_named() -> None:
    assert Identities().metrics.objective.name == "map"
    other = Identities(objective="minp")
    assert [metric.name for metric in other.metrics.in_tables] == ["minp", "map", "cmc1", "retention"]
    assert {metric.name for metric in other.metrics.every} == {metric.name for metric in Identities().metrics.every}
    settings = SweepSettings.parse({"task": {"name": "identities", "objective": "cmc1"}}, source="sweep.yaml")
    assert settings.search.objectives == ("cmc1",)
    with pytest.raises(InputError, match=r"task.*objective"):
        SweepSettings.parse({"task": {"name": "identities", "objective": "rank1"}}, source="sweep.yaml")


def test_a_run_keeps_the_unit_that_is_best_by_it(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    strategy = {"name": "full", "optim": {"lr": 1e-3, "batch_size": 8}, "rates": "published"}
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 4, "keep_every": 1}
    experiment = Experiment.model_validate(values | {"task": {"name": "identities", "objective": "cmc5"}})
    record = train_into(tmp_path / "run", experiment, device=torch.device("cpu"))
    best = max(record.log, key=lambda row: row["cmc5"])  # the earliest of equals
    assert record.best == best
    kept, of_unit = (load_tensors(tmp_path / "run" / name) for name in (BEST, f"handclip_epoch_{best['unit']}.pth"))
    assert all(torch.equal(kept[name], value) for name, value in of_unit.items())
    report = evaluate_run(tmp_path / "run", device=torch.device("cpu"), view=View("val"))
    assert report.values["scores"]["overall"]["cmc5"]["mean"] == pytest.approx(best["cmc5"], abs=1e-6)
    assert not load_run(tmp_path / "run", device=torch.device("cpu")).training
