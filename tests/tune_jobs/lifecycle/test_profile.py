"""A few steps of an experiment, beside the whole of it."""

from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, SequentialEWC, ZeroShot
from tests.conftest import TINY_DATA
from tune_jobs.lifecycle.profile import profile


@pytest.fixture(scope="module")
def tiny(tiny_backbones: dict[str, BackboneSettings]) -> dict[str, Any]:
    return {"data": TINY_DATA, "backbone": tiny_backbones["vit"], "budget": 4}


@pytest.mark.parametrize("strategy", [ZeroShot(), Full(), SequentialEWC()])
def test_a_probe_knows_the_size_of_a_saved_state(strategy: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    experiment = Experiment(strategy=strategy, **tiny)
    found = profile(experiment, "cpu")
    assert found.reason == ""
    assert (found.train_s > 0) is (strategy.name != "zero_shot")
    assert found.validate_s > 0
    driven = drive(experiment, tmp_path, device=torch.device("cpu"))
    next(driven)
    driven.save(tmp_path / "state")
    saved = sum(path.stat().st_size for path in (tmp_path / "state").glob("*.pth"))
    assert 0.5 * saved < found.state_bytes <= saved
    assert found.memory_bytes > found.state_bytes


def test_what_cannot_be_tried_says_why(tiny: dict[str, Any]) -> None:
    broken = BackboneSettings(name="ViT-Z-99")
    found = profile(Experiment(strategy=Full(), **tiny | {"backbone": broken}), "cpu")
    assert found.reason.startswith("InputError: ")
    assert "ViT-Z-99" in found.reason
    assert found.seconds != found.seconds, f"not a number, {nan}"
