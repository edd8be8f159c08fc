"""Aspects one after another, on tiny data before a tiny transformer."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from handclip_core.experiment import Experiment, run
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
OPTIM = {"batch_size": 8, "lr": 1e-3}


def experiment_of(strategy: dict[str, object], backbone: BackboneSettings, *, budget: int = 4) -> Experiment:
    values = {"strategy": {"optim": OPTIM, **strategy}, "data": TINY_DATA, "backbone": backbone, "budget": budget}
    return Experiment.model_validate(values)


def weights_after_each_unit(experiment: Experiment) -> list[dict[str, Tensor]]:
    states = (progress.state.model.state_dict() for progress in run(experiment, device=CPU))
    return [{name: value.clone() for name, value in state.items()} for state in states]


@pytest.fixture
def backbone(tiny_backbones: dict[str, BackboneSettings]) -> BackboneSettings:
    return tiny_backbones["vit"]


def test_the_forgetting_matrix_is_part_of_the_result(backbone: BackboneSettings, tmp_path: Path) -> None:
    strategy: dict[str, object] = {"name": "sequential", "order": ["palmar left", "dorsal right"]}
    experiment = experiment_of(strategy, backbone, budget=3)
    train_into(tmp_path / "run", experiment, device=CPU)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["sequence"]
    assert found["aspects"] == ["palmar left", "dorsal right"]
    assert [len(row) for row in found["map_after_phase"]] == [2, 2, 2]
    assert all(0 < value <= 1 for row in found["map_after_phase"] for value in row)
    assert found["average"] == pytest.approx(sum(found["map_after_phase"][2]) / 2)
    assert {"forgetting", "backward_transfer", "forward_transfer"} <= found.keys()


def test_without_strength_ewc_is_plain_sequential_training(backbone: BackboneSettings) -> None:
    plain = weights_after_each_unit(experiment_of({"name": "sequential"}, backbone))
    control = weights_after_each_unit(experiment_of({"name": "sequential_ewc", "strength": 0}, backbone))
    assert all(torch.equal(value, control[-1][name]) for name, value in plain[-1].items())


@pytest.mark.parametrize("penalty", [{"remember": "online"}, {"remember": "separate"}, {"penalty": "l2_sp"}])
def test_more_strength_moves_the_tower_less(backbone: BackboneSettings, penalty: dict[str, object]) -> None:
    def moved(strength: float) -> float:
        values = {"name": "sequential_ewc", "strength": strength, "fisher_samples": 4, **penalty}
        states = weights_after_each_unit(experiment_of(values, backbone))
        first, last = states[0], states[-1]
        tower = [name for name in first if name.startswith("backbone.visual.transformer")]
        return sum((last[name] - first[name]).square().sum().item() for name in tower)

    distances = [moved(strength) for strength in (0.0, 10.0, 1e4)]
    assert distances == sorted(distances, reverse=True)
