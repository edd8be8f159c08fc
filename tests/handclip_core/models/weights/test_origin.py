"""What stands beside weights: how a run's own are gone on with, and which activation they need."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.models.lora import LoraTargets, insert_lora, merged
from handclip_core.models.weights.origin import merged_updates


def run_folder(folder: Path, state: dict[str, Any], config: dict[str, Any] | None) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "handclip_best.pth")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "handclip_best.pth"


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_a_run_with_updates_is_gone_on_with_from_its_folder(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, tower: str
) -> None:
    """Weights of a run stand behind ``backbone.``, beside its neck and head; updates are merged as peft merges them."""
    tuned = load_backbone(tiny_backbones[tower])
    torch.manual_seed(0)
    insert_lora(tuned, rank=3, alpha=6.0, dropout=0.0, targets=LoraTargets.BOTH, last_blocks=None)
    for name, tensor in tuned.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(tensor, std=0.1)
    state = {f"backbone.{name}": tensor for name, tensor in tuned.state_dict().items()}
    config = {"strategy": {"name": "lora", "alpha": 6.0, "rank": 3}, "backbone": {"name": tiny_backbones[tower].name}}
    path = run_folder(tmp_path / "run", {**state, "head.weight": torch.ones(2, 2)}, config)
    expected = merged(tuned).state_dict()
    for given in (path, path.parent):
        found = load_backbone(tiny_backbones[tower].model_copy(update={"pretrained": str(given)}))
        for name, tensor in found.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
        assert found.notes[0].endswith("left 'head' aside, which will be made anew")
    (path.parent / "config.json").unlink()
    with pytest.raises(InputError, match=r"low-rank updates, whose strength is in their run's config.json; put that"):
        load_backbone(tiny_backbones[tower].model_copy(update={"pretrained": str(path)}))


def test_updates_without_their_weights_are_refused() -> None:
    alone = {"q.lora_A.weight": torch.ones(2, 3), "q.lora_B.weight": torch.ones(3, 2)}
    with pytest.raises(InputError, match="x: holds low-rank updates alone, without the weights of q"):
        merged_updates(alone, alpha=1.0, source=Path("x"))
