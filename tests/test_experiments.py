"""The files of the published experiments: valid, each what its name says, and with a plan."""

from pathlib import Path

import pytest
import torch

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.evaluation.protocol import GalleryKind
from handclip_core.models.architectures import is_tag
from handclip_core.models.backbone import BackboneSettings
from handclip_core.reports.plans import plan_table
from handclip_core.runs.experiment import Experiment
from tests.conftest import TINY_DATA

FOLDER = Path(__file__).parents[1] / "experiments"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
METHODS = {"baseline": "zero_shot", "fine-tune": "full", "clip-reid": "clip_reid"}
BACKBONES = {"vit-b-16": "ViT-B-16", "vit-b-32": "ViT-B-32", "rn50": "RN50"}
EPOCHS = {"baseline": (), "fine-tune": (9,), "clip-reid": (120, 60)}


def test_there_is_one_for_each_method_backbone_and_data_set() -> None:
    assert set(FILES) == {
        f"{data}-{method}-{name}" for data in ("11k", "hd") for method in METHODS for name in BACKBONES
    }


@pytest.mark.parametrize("stem", FILES)
def test_a_file_is_what_its_name_says(stem: str) -> None:
    found = Experiment.from_file(FILES[stem])
    data, _, rest = stem.partition("-")
    (method,) = (one for one in METHODS if rest.startswith(one))
    backbone = rest.removeprefix(f"{method}-")
    assert (found.strategy.name, found.backbone.name) == (METHODS[method], BACKBONES[backbone])
    assert found.backbone.pretrained is not None
    assert is_tag(found.backbone.name, found.backbone.pretrained)
    assert found.part == "train_all"
    assert isinstance(found.data, PreparedData)
    assert found.data.gallery is (GalleryKind.OWN if data == "hd" else GalleryKind.ALL)


def plan_of(stem: str, backbones: dict[str, BackboneSettings]) -> str:
    found = Experiment.from_file(FILES[stem])
    tiny = backbones["resnet" if found.backbone.name == "RN50" else "vit"]
    data = TINY_DATA.model_copy(update={"aspects": () if stem.startswith("hd") else found.data.aspects})
    assert isinstance(data, DrawnData)
    return plan_table(found.model_copy(update={"backbone": tiny, "data": data}), device=torch.device("cpu"))


@pytest.mark.parametrize("stem", [stem for stem in FILES if not stem.endswith("vit-b-32")])
def test_a_plan_shows_every_image_as_often_as_published(stem: str, tiny_backbones: dict[str, BackboneSettings]) -> None:
    plan = plan_of(stem, tiny_backbones)
    (method,) = (one for one in METHODS if f"-{one}-" in stem)
    epochs = (120, 120) if stem.endswith("clip-reid-rn50") else EPOCHS[method]
    if not epochs:
        assert "nothing is trained" in plan
        return
    rows, images = (
        [int(cell.strip().replace(",", "")) for cell in line.split("|")[2:-1]]
        for name in ("rows", "images")
        for line in plan.splitlines()
        if line.split("|")[1:2] and line.split("|")[1].strip() == name
    )
    for shown, held, times in zip(images, rows, epochs, strict=True):
        assert shown == pytest.approx(held * times, abs=64)  # whole batches
