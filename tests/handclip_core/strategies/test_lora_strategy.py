"""What LoRA's settings promise beyond the contract of all strategies."""

from pathlib import Path

import pytest
import torch

from handclip_core.data.sources import DrawnData
from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Optim
from handclip_core.local import finish
from handclip_core.models.backbone import BackboneSettings
from handclip_core.models.lora import LoraTargets, merged
from handclip_core.runs.context import open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment, assemble, run
from handclip_core.runs.run_folder import load_run
from handclip_core.strategies import Lora

CPU = torch.device("cpu")
DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)


def experiment_of(strategy: Lora, backbone: BackboneSettings) -> Experiment:
    return Experiment(strategy=strategy, data=DATA, backbone=backbone, budget=2, micro_batch=5)


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_dropout_in_parts_of_batches_resumes_bit_for_bit_and_merges_after_loading(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, tower: str
) -> None:
    strategy = Lora(rank=3, dropout=0.4, optim=Optim(lr=1e-2, batch_size=16))
    experiment = experiment_of(strategy, tiny_backbones[tower])
    expected = {
        name: value.clone() for name, value in list(run(experiment, device=CPU))[-1].state.model.state_dict().items()
    }
    cut = drive(experiment, tmp_path / "run", device=CPU)
    next(cut)
    cut.keep()
    cut.close()
    resumed = drive(experiment, tmp_path / "run", device=CPU, resume=cut.record.kept_checkpoint())
    for _ in resumed:
        resumed.keep()
    found = resumed.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())

    finish(resumed.record, device=CPU)
    model = load_run(tmp_path / "run", device=CPU)
    pixels = torch.rand(2, 3, model.backbone.image_px, model.backbone.image_px)
    aspects = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        plain = merged(model)
        torch.testing.assert_close(plain.embed(pixels, aspects), model.embed(pixels, aspects), rtol=1e-5, atol=1e-5)


def test_blocks_before_the_first_update_are_read_from_a_cache(tiny_backbones: dict[str, BackboneSettings]) -> None:
    context = open_context(DATA, tiny_backbones["vit"], CPU)
    ready = assemble(experiment_of(Lora(last_blocks=1), tiny_backbones["vit"]), context)
    blocks = context.pretrained.blocks()
    assert blocks[ready.cached_blocks(0)] == ("visual.transformer.resblocks.2",)


def test_trains_updates_neck_and_head_alone(tiny_backbones: dict[str, BackboneSettings]) -> None:
    context = open_context(DATA, tiny_backbones["vit"], CPU)
    ready = assemble(experiment_of(Lora(targets=LoraTargets.ATTENTION), tiny_backbones["vit"]), context)
    names = {
        item.name.removeprefix("backbone.visual.transformer.resblocks.")
        for item in choose(ready.model, ready.phases[0].train)
    }
    parts = [
        f"{block}.attn.{part}.lora_{side}" for block in range(3) for part in ("in_proj", "out_proj") for side in "AB"
    ]
    assert names == {*(f"{part}.default.weight" for part in parts), "neck.layer.weight", "head.weight"}
