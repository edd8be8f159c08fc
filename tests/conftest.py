"""Small data and small backbones that every test may share; caches go to a folder of the test session.

pytest-xdist reads this file once more in the process that only hands out tests, so open_clip is imported where it is
used.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from handclip_core.data.sources import DrawnData

if TYPE_CHECKING:
    from handclip_core.models.backbone import BackboneSettings
    from handclip_core.runs.context import ExperimentContext

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
VIT: dict[str, object] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
RESNET: dict[str, object] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
TINY_DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SHARED_FOLDER = "HANDCLIP_TEST_SHARED"
"""Environment variable with the folder of the tests that started these, for tests that run pytest again."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same random numbers in every run, also for what fixtures draw."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a run of tests share."""
    base = tmp_path_factory.getbasetemp()
    given = os.environ.get(SHARED_FOLDER)
    folder = Path(given) if given else (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_folder(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep caches, and the threads of every process, away from the user's own.

    All processes of a run of tests share one cache, each by a path of its own, which tells their children apart.
    """
    (shared_folder / "cache").mkdir(exist_ok=True)
    folder = tmp_path_factory.getbasetemp() / "cache"
    folder.symlink_to(shared_folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SHARED_FOLDER, str(shared_folder))
        patch.setenv("HANDCLIP_CACHE", str(folder))
        patch.setenv("HANDCLIP_STATE", str(tmp_path_factory.getbasetemp() / "state"))
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield folder


@pytest.fixture(scope="session")
def tiny_backbones(shared_folder: Path) -> dict[str, "BackboneSettings"]:
    """A transformer and a ResNet of a few thousand random weights, by kind of tower."""
    with FileLock(shared_folder / "backbones.lock"):
        return {kind: _tiny(shared_folder / kind, tower) for kind, tower in (("vit", VIT), ("resnet", RESNET))}


@pytest.fixture(scope="session")
def tiny_context(tiny_backbones: dict[str, "BackboneSettings"]) -> "ExperimentContext":
    """Twelve drawn identities before the tiny transformer."""
    from handclip_core.runs.context import open_context

    assert os.environ["HANDCLIP_CACHE"]
    return open_context(TINY_DATA, tiny_backbones["vit"], torch.device("cpu"))


def _tiny(folder: Path, tower: dict[str, object]) -> "BackboneSettings":
    from handclip_core.models.backbone import BackboneSettings

    model = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": TEXT}
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    settings = BackboneSettings(name=f"local-dir:{folder}", pretrained="random")
    if not folder.exists():
        folder.mkdir()
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    return settings if "patch_size" in tower else _awake(settings, folder / "weights.pt")


def _awake(settings: "BackboneSettings", path: Path) -> "BackboneSettings":
    """The same with bottlenecks that act: random ones are multiplied by zero, so that no gradient gets into them."""
    if not path.exists():
        from handclip_core.models.backbone import load_backbone

        backbone = load_backbone(settings, text=True)
        for name, tensor in backbone.named_parameters():
            if name.endswith("bn3.weight"):
                torch.nn.init.ones_(tensor)
        torch.save(backbone.state_dict(), path)
    return settings.model_copy(update={"pretrained": str(path)})
