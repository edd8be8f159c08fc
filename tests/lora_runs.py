"""Runs of low-rank updates with random weights, and what their merged weights are by the paper's formula."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.hand_model import HandModel
from handclip_core.models.lora import LoraTargets
from handclip_core.runs.context import open_context
from handclip_core.runs.experiment import Experiment, assemble
from handclip_core.runs.run_folder import CONFIG, FINAL, LOG, write_log
from handclip_core.strategies import Full, Lora
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")
FIRST = Lora(rank=3, alpha=6.0)
SAME = (FIRST, FIRST)
OTHERS = (FIRST, Lora(rank=2, alpha=10.0), Lora(rank=4, alpha=2.0, targets=LoraTargets.MLP, last_blocks=1))
States = Mapping[str, Tensor]


def lora_run(strategy: Lora, backbone: BackboneSettings, folder: Path, *, seed: int) -> Experiment:
    """The settings of a run and, in ``folder``, its last weights: all that it trains is random."""
    experiment = Experiment(strategy=strategy, data=TINY_DATA, backbone=backbone, seed=seed, budget=1)
    model = untrained(experiment)
    random = torch.Generator().manual_seed(100 + seed)
    for name, parameter in model.named_parameters():
        if ".lora_" in name or not name.startswith("backbone."):
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=random)
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(experiment.model_dump_json())
    torch.save(model.state_dict(), folder / FINAL)
    write_log([{"unit": 1, "images": 10 * (seed + 1), "train_s": 0.5}], folder / LOG)
    return experiment


def untrained(experiment: Experiment) -> HandModel:
    """The model of ``experiment`` before training."""
    return assemble(experiment, open_context(experiment.data, experiment.backbone, CPU)).model


def merged_by_hand(state: States, strategy: Lora) -> dict[str, Tensor]:
    """W + alpha / rank * B A in float64, under the names of a model without updates."""
    found = {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        plain, weight = name.replace(".base_layer.", ".").replace(".attn.in_proj.", ".attn.in_proj_"), value
        if ".base_layer.weight" in name:
            a, b = (state[name.replace("base_layer", f"lora_{side}.default")].double() for side in "AB")
            change = torch.einsum("or,r...->o...", b.flatten(1), a)
            weight = value.double() + strategy.alpha / strategy.rank * change
        found[plain] = weight.double() if weight.is_floating_point() else weight
    return found


def mean_by_hand(states: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """The weighted sum of ``states``."""
    return {
        name: sum((share * state[name] for state, share in zip(states, shares, strict=True)), torch.zeros(()))
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def plain_model(experiment: Experiment, state: States) -> HandModel:
    """A model without updates in float64, with the neck of ``experiment`` and the weights ``state``."""
    assert isinstance(experiment.strategy, Lora)
    plain = Full(neck=experiment.strategy.neck)
    model = untrained(experiment.model_copy(update={"strategy": plain})).double()
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def embedded(model: HandModel) -> Tensor:
    """Embeddings [3, W] of random images in float64, of length 1."""
    px = model.architecture.image_px
    pixels = torch.rand(3, 3, px, px, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = model.double().eval().embed(pixels, torch.zeros(3, dtype=torch.int64))
    return torch.nn.functional.normalize(found, dim=1)
