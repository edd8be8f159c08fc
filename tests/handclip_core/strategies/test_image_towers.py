"""Strategies that read no text, on an image tower of timm: they train, go on from a saved state, and can be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from handclip_core.data.sources import DrawnData
from handclip_core.errors import InputError
from handclip_core.evaluation.embed import embed
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from handclip_core.runs.drive import drive
from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import load_run
from handclip_core.serving.export import export_run
from handclip_core.serving.model import open_run

CPU = torch.device("cpu")
DATA = DrawnData(people=12, images_per_aspect=3, height_px=96)
TOWER = BackboneSettings(name="timm/test_vit", pretrained="random")
OPTIM = {"lr": 1e-3, "batch_size": 16}
STRATEGIES: dict[str, dict[str, Any]] = {
    "zero_shot": {},
    "whitening": {},
    "linear_probe": {"optim": OPTIM},
    "full": {"optim": OPTIM, "rates": "published", "frozen_blocks": 5},
    "lora": {"optim": OPTIM, "last_blocks": 1},
    "adapters": {"optim": OPTIM},
}


def experiment(name: str, **more: Any) -> Experiment:
    strategy = {"name": name, **STRATEGIES.get(name, {})}
    return Experiment.model_validate({"strategy": strategy, "data": DATA, "backbone": TOWER, "budget": 2, **more})


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_trains_goes_on_and_is_opened_again(name: str, tmp_path: Path) -> None:
    driven = drive(experiment(name), tmp_path / "run", device=CPU)
    reports = []
    for report in driven:
        reports.append(report)
        driven.keep()
        driven.save(tmp_path / f"state{len(reports)}")
    last = tmp_path / f"state{len(reports)}"
    weights = {key: value.clone() for key, value in driven.model.state_dict().items()}
    assert reports[-1].done
    assert 0 < reports[-1].metrics["map"] <= 1
    if len(reports) > 1:
        again = drive(experiment(name), tmp_path / "again", device=CPU, resume=tmp_path / "state1")
        assert [report.unit for report in again] == [2]
        assert all(torch.equal(value, weights[key]) for key, value in again.model.state_dict().items())
    driven.record.finish(checkpoint=last, device=CPU)
    context = open_context(DATA, TOWER, CPU)
    rows = context.rows("val")[:4]
    files = [context.prepared.root / path for path in context.prepared.manifest["path"].iloc[rows]]
    model, aspects = load_run(tmp_path / "run", device=CPU), context.aspect_indices
    expected = embed(model, context.pixel_inputs, rows, aspects=aspects, device=CPU)
    np.testing.assert_allclose(open_run(tmp_path / "run").embed(files), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_embeddings_as_they_are_are_the_towers_own() -> None:
    context = open_context(DATA, TOWER, CPU)
    rows = context.rows("val")[:4]
    found = context.feature_inputs.of(rows, device=CPU)
    assert found.projected.shape == (4, 64)
    assert not torch.equal(found.projected, found.features), "class token and mean of the patches"


def test_what_reads_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="timm/test_vit is an image tower alone, but the strategy reads texts"):
        experiment("clip_reid")
    for task in ("classes", "captions"):
        with pytest.raises(ValidationError, match=f"but the task {task} reads texts; choose a CLIP"):
            experiment("two_tower" if task == "captions" else "full", task={"name": task})
    captioned = {"name": "full", "optim": OPTIM, "losses": {"image_text": {"weight": 1.0}}}
    with pytest.raises(InputError, match="an image tower alone; texts are read by a CLIP"):
        list(drive(experiment("full", strategy=captioned), tmp_path / "run", device=CPU))


def test_a_file_of_open_clip_cannot_be_written_without_a_text_tower(tmp_path: Path) -> None:
    driven = drive(experiment("zero_shot"), tmp_path / "run", device=CPU)
    list(driven)
    driven.keep()
    driven.save(tmp_path / "state")
    driven.record.finish(checkpoint=tmp_path / "state", device=CPU)
    served = open_run(tmp_path / "run")
    with pytest.raises(InputError, match="its backbone has no text tower"):
        export_run(served, tmp_path / "out", kind="open_clip")
    export_run(served, tmp_path / "plain", kind="safetensors")
    squares = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    np.testing.assert_allclose(open_run(tmp_path / "plain").embed_squares(squares), served.embed_squares(squares))
