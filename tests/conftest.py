"""Small data and small backbones that every test may share; caches go to a folder of the test session."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from handclip_core.data.sources import DrawnData
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.runs.context import Bench, open_bench

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
VIT: dict[str, object] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
RESNET: dict[str, object] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TINY_DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches, and the threads of every process, away from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDCLIP_CACHE", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield folder


@pytest.fixture(scope="session")
def tiny_backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BackboneSettings]:
    """A transformer and a ResNet of a few thousand random weights, by kind of tower."""
    return {kind: _tiny(tmp_path_factory.mktemp(kind), tower) for kind, tower in (("vit", VIT), ("resnet", RESNET))}


@pytest.fixture(scope="session")
def tiny_bench(tiny_backbones: dict[str, BackboneSettings]) -> Bench:
    """Twelve drawn people before the tiny transformer."""
    assert os.environ["HANDCLIP_CACHE"]
    return open_bench(TINY_DATA, tiny_backbones["vit"], torch.device("cpu"))


def _tiny(folder: Path, tower: dict[str, object]) -> BackboneSettings:
    model = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": TEXT}
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    settings = BackboneSettings(name=f"local-dir:{folder}", pretrained="random")
    return settings if "patch_size" in tower else _awake(settings, folder / "weights.pt")


def _awake(settings: BackboneSettings, path: Path) -> BackboneSettings:
    """The same with bottlenecks that act: random ones are multiplied by zero, so that no gradient gets into them."""
    backbone = load_backbone(settings, text=True)
    for name, tensor in backbone.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(tensor)
    torch.save(backbone.state_dict(), path)
    return BackboneSettings(name=settings.name, pretrained=str(path))
