"""Aspects one after another, on tiny data before a tiny transformer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.engine.loop import Budget, train
from handclip_core.engine.phase import evaluation_points_of
from handclip_core.errors import InputError
from handclip_core.evaluation.forgetting import sequential_scores
from handclip_core.local import train_into
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment, assemble, run, score
from handclip_core.strategies import SequentialEWC
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
OPTIM = {"batch_size": 8, "lr": 1e-3}


def experiment_of(strategy: dict[str, object], backbone: BackboneSettings, *, budget: int = 4) -> Experiment:
    values = {
        "strategy": {"optim": OPTIM, "rates": "published", **strategy},
        "data": TINY_DATA,
        "backbone": backbone,
        "budget": budget,
    }
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


@pytest.mark.parametrize("source", ["projected", "trunk"])
@pytest.mark.parametrize("penalty", ["ewc", "l2_sp"])
def test_without_strength_it_is_plain_sequential_training(
    backbone: BackboneSettings, penalty: str, source: str
) -> None:
    """Also where CLIP's projection has no gradient, behind a neck that reads the trunk."""
    shared: dict[str, object] = {"neck": {"kind": "bn", "source": source}}
    controlled = {"name": "sequential_ewc", "penalty": penalty, "strength": 0, **shared}
    plain = weights_after_each_unit(experiment_of({"name": "sequential", **shared}, backbone))
    control = weights_after_each_unit(experiment_of(controlled, backbone))
    assert plain[-1].keys() == control[-1].keys()
    assert all(torch.equal(value, control[-1][name]) for name, value in plain[-1].items())
    moved = {name for name, value in plain[-1].items() if not torch.equal(value, plain[0][name])}
    assert ("backbone.visual.proj" in moved) is (source == "projected")


def test_information_of_a_head_that_is_never_trained_is_refused() -> None:
    losses = {"identity": {"weight": 0}, "triplet": {"weight": 1}}
    values = {"losses": losses, "sampler": {"kind": "pk"}}
    with pytest.raises(InputError) as refused:
        SequentialEWC.parse(values, source="strategy")
    assert str(refused.value) == (
        "strategy: losses.identity.weight is 0, so that the identity head, whose posterior EWC's Fisher information "
        "is of, stays random: give it a weight, or set penalty: l2_sp or strength: 0"
    )
    for mend in ({"penalty": "l2_sp"}, {"strength": 0}):
        SequentialEWC.parse({**values, **mend}, source="strategy")


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


def matrices(backbone: BackboneSettings, strength: float) -> NDArray[np.float64]:
    """Forgetting matrices [S, T + 1, T] of two seeds: palmar hands after dorsal ones, identities that were trained on.

    Every aspect of an identity is a class of its own, so that nothing in the second phase repeats the first.
    """
    strategy = {
        "name": "sequential_ewc",
        "strength": strength,
        "fisher_samples": 8,
        "labels": "person_aspect",
        "order": ["dorsal right", "palmar left"],
        "optim": {"batch_size": 16, "lr": 1e-3, "schedule": "cosine", "warmup": 0.1},
        "rates": "published",
        "neck": {"kind": "bn"},
        "head_lr_scale": 3,
    }
    values = {"strategy": strategy, "data": TINY_DATA, "backbone": backbone, "budget": 20, "part": "train_all"}
    return np.array([evaluation_points(Experiment.model_validate({**values, "seed": seed})) for seed in (1, 2)])


def evaluation_points(experiment: Experiment) -> list[list[float]]:
    """The forgetting matrix [T + 1, T] of a run that is validated at its evaluation points alone."""
    context = open_context(experiment.data, experiment.backbone, CPU)
    ready = assemble(experiment, context)
    budget = Budget(units=1, epoch_images=ready.budget.units * ready.budget.epoch_images)
    found: list[list[float]] = []
    for point in train(ready.model, ready.phases, loader=ready.loader, budget=budget, seed=experiment.seed):
        if point.evaluation_point:
            scores = score(context, ready.model, ready.inputs(point.phase_index), "val")
            found = point.state.evaluation_points
            found.append([scores.objective_of(aspect) for aspect in evaluation_points_of(ready.phases)])
    return found


def forgotten(found: NDArray[np.float64]) -> float:
    return float(np.mean([sequential_scores(matrix).forgetting for matrix in found]))


def test_more_strength_forgets_less_and_learns_less(backbone: BackboneSettings) -> None:
    plain, some, much = (matrices(backbone, strength) for strength in (0.0, 1.0, 1e3))
    zero_shot, first, last = plain.mean(axis=0)
    assert first[0] > zero_shot[0] + 0.3
    assert last[1] > zero_shot[1] + 0.3
    assert forgotten(plain) > forgotten(some) + 0.03 > forgotten(much) + 0.06
    assert forgotten(much) < 0.05
    assert plain[:, 2, 1].mean() > much[:, 2, 1].mean() + 0.1
