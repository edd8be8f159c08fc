"""What every strategy must keep that serves the task: as the contract of the others, on the task classes."""

from pathlib import Path

import optuna
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from handclip_core.engine.loop import Budget, train
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment, assemble, context_of
from handclip_core.strategies import ALL, AnyStrategy, Strategy
from handclip_core.tasks.classes.task import Classes
from search_spaces.by_task import spaces_of
from search_spaces.spaces import params_of
from tests.conftest import TINY_DATA
from tests.process_pair import assert_one_process_agrees, process_pair

CPU = torch.device("cpu")
BUDGET = 3
KINDS = tuple(kind for kind in ALL if isinstance(Classes(), kind.tasks) and kind.trains)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def experiment_of(kind: type[Strategy], backbone: BackboneSettings, **changes: object) -> Experiment:
    """The strategy with its defaults, but rates that move a tiny model."""
    optim = kind().model_dump()["optim"] | {"batch_size": 8, "lr": 1e-3}  # type: ignore[call-arg]
    rates = {"rates": "published"} if "rates" in kind.model_fields else {}
    strategy = {"name": kind.model_fields["name"].default, "optim": optim} | rates | changes
    values = {"strategy": strategy, "task": {"name": "classes"}, "data": TINY_DATA, "backbone": backbone}
    return Experiment.model_validate(values | {"budget": BUDGET, "seed": 3})


@every_kind
def test_settings_survive_json_and_draws_of_the_space_serve_the_task(kind: type[Strategy]) -> None:
    adapter: TypeAdapter[Strategy] = TypeAdapter(AnyStrategy)
    spaces, name = spaces_of(Classes()), kind.model_fields["name"].default
    if name not in spaces:
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(30):
        trial = study.ask()
        drawn = spaces[name](trial)
        assert adapter.validate_json(drawn.model_dump_json()) == drawn
        assert params_of(drawn, spaces) == trial.params


@every_kind
def test_a_run_resumed_from_any_unit_ends_bit_for_bit_the_same(
    kind: type[Strategy], tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    experiment = experiment_of(kind, tiny_backbones["vit"], augment={"shift": 0.05})
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    driven, whole = drive(experiment, tmp_path / "run", device=CPU), []
    for number, report in enumerate(driven, start=1):
        driven.keep()
        driven.save(tmp_path / f"checkpoint{number}")
        whole.append(report)
    weights = {name: value.clone() for name, value in driven.model.state_dict().items()}
    assert [item.unit for item in whole] == list(range(1, BUDGET + 1))
    assert all({"accuracy", "zero_shot_accuracy", "generic_retention"} <= set(item.metrics) for item in whole)
    for cut in range(1, len(whole)):
        again = drive(experiment, tmp_path / f"resumed{cut}", device=CPU, resume=tmp_path / f"checkpoint{cut}")
        assert [item.metrics for item in again] == [item.metrics for item in whole[cut:]]
        assert all(torch.equal(weights[name], value) for name, value in again.model.state_dict().items())


@pytest.mark.spawn
def test_two_processes_train_every_strategy_as_one(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    """Over gloo, in double precision: the weights of one process, and the same bits in both processes.

    Dropout is off: what several processes drop depends on how they share a batch.
    """
    with process_pair(one_of_two, tiny_backbones["vit"], tmp_path):
        alone = weights_of_all(tiny_backbones["vit"])
    assert_one_process_agrees(alone, tmp_path)


def weights_of_all(backbone: BackboneSettings) -> dict[str, dict[str, Tensor]]:
    """After an epoch of images that are changed at random, which no cache of activations can give."""
    found = {}
    for kind in KINDS:
        undropped = {"dropout": 0.0} if "dropout" in kind.model_fields else {}
        experiment = experiment_of(kind, backbone, augment={"shift": 0.01}, **undropped)
        ready = assemble(experiment, context_of(experiment, CPU))
        ready.model.double()
        for _ in train(ready.model, ready.phases, loader=ready.loader, budget=Budget(1, 64), seed=3):
            pass
        found[kind.__name__] = {name: value.clone() for name, value in ready.model.state_dict().items()}
    return found


def one_of_two(rank: int, backbone: BackboneSettings, folder: Path) -> None:
    """Train in a process group of two and save what comes out."""
    torch.save(weights_of_all(backbone), folder / f"{rank}.pt")
