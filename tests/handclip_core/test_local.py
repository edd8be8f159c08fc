"""Training in one process: what it says beside the lines of its units."""

from pathlib import Path

import pytest
import torch

from handclip_core.evaluation.metrics import HARDLY_MOVED
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.experiment import Experiment
from tests.conftest import TINY_DATA


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
    train_into(tmp_path / "run", experiment, device=torch.device("cpu"))
    printed = capsys.readouterr().out.splitlines()
    assert printed.count(HARDLY_MOVED) == (lr < 1e-6)
    if lr < 1e-6:
        assert printed.index(HARDLY_MOVED) == 2
