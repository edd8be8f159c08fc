"""Small finished runs whose data and pretrained weights are gone, one a strategy, made when first asked for."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handclip_core.evaluation.embed import embed
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import ExperimentContext, open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment, context_of
from handclip_core.runs.run_folder import load_run
from handclip_core.types import ASPECT_INDEX, Aspect
from tests.conftest import TINY_DATA

READERS = ("handclip_core.runs.run_folder.context_of", "handclip_core.runs.experiment.context_of")
CPU = torch.device("cpu")
OPTIM = {"lr": 1e-3, "batch_size": 16}
STRATEGIES: dict[str, dict[str, Any]] = {
    "full": {"name": "full", "optim": OPTIM, "neck": {"kind": "bn"}},
    "lora": {"name": "lora", "rank": 2, "optim": OPTIM},
    "probe": {"name": "linear_probe", "optim": OPTIM},
    "adapters": {"name": "adapters", "width": 4, "optim": OPTIM, "neck": {"kind": "none"}},
    "whitening": {"name": "whitening"},
    "uneven": {"name": "whitening", "neck": {"source": "blocks", "readout": {"pool": "grid", "grid": 3}}},
    "plda": {"name": "whitening", "neck": {"source": "blocks", "metric": {"kind": "plda", "dim": 8}}},
    "branches": {"name": "multi_branch", "optim": OPTIM},
    "own": {"name": "aspect_specific", "optim": OPTIM},
    "scores": {"name": "aspect_specific", "fusion": "scores", "optim": OPTIM},
    "votes": {"name": "aspect_specific", "fusion": "votes", "optim": OPTIM},
    "two_tower": {"name": "two_tower", "rates": "published", "optim": OPTIM},
    "clip_lora": {"name": "clip_lora", "optim": OPTIM},
    "clip_reid": {"name": "clip_reid", "optim": OPTIM},
}

CAPTIONED = ("two_tower", "clip_lora")
"""Those that train on captions."""


@dataclass(frozen=True)
class Finished:
    """The ``folder`` of a run, and embeddings [n, W] of image files as training makes them of unknown aspects."""

    folder: Path
    files: list[Path]
    embeddings: NDArray[np.float32]
    identities: list[str]
    context: ExperimentContext
    test_metrics: dict[str, float]
    """What the best weights score on test identities."""


FinishedRun = Callable[[str], Finished]


@pytest.fixture(scope="session")
def finished(
    tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Finished]:
    """The run of a strategy in STRATEGIES."""
    made: dict[str, Finished] = {}

    def run(name: str) -> Finished:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                for module in READERS:
                    patch.setattr(module, context_of)
                made[name] = _finished(STRATEGIES[name], tiny_backbones["vit"], tmp_path_factory.mktemp(name))
        return made[name]

    return run


def _finished(strategy: dict[str, Any], backbone: BackboneSettings, folder: Path) -> Finished:
    pretrained = folder / "pretrained"
    shutil.copytree(backbone.name.removeprefix("local-dir:"), pretrained)
    settings = backbone.model_copy(update={"name": f"local-dir:{pretrained}"})
    task = {"name": "captions" if strategy["name"] in CAPTIONED else "identities"}
    experiment = Experiment.model_validate(
        {"strategy": strategy, "task": task, "data": TINY_DATA, "backbone": settings, "budget": 1, "seed": 1}
    )
    context = open_context(experiment.data, settings, CPU, experiment.task)
    driven = drive(experiment, folder / "run", device=CPU)
    for _ in driven:
        driven.save(folder / "state")
    driven.record.finish(checkpoint=folder / "state", device=CPU)
    rows = context.rows("val")
    hidden = np.full_like(context.aspect_indices, ASPECT_INDEX[Aspect.UNKNOWN])
    model = load_run(folder / "run", device=CPU)
    embeddings = embed(model, context.pixel_inputs, rows, aspects=hidden, device=CPU).numpy()
    files = [context.prepared.paths()[row] for row in rows]
    shutil.rmtree(pretrained)
    tested = context.evaluator("test").evaluate(model, context.pixel_inputs).metrics
    return Finished(folder / "run", files, embeddings, context.identities[rows].tolist(), context, tested)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a run in use would open the data of its experiment."""

    def opened(*_: object) -> None:
        raise AssertionError("the data were opened")

    for module in READERS:
        monkeypatch.setattr(module, opened)
