"""What a sweep's data and weights allow is said before Ray starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handclip_core.data.folder import prepare_folder
from handclip_core.data.sources import PreparedData
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.strategies import Lora
from search_spaces.narrowing import first_of
from tune_jobs.config.settings import SETTINGS, SweepSettings, dump_settings, load_settings
from tune_jobs.lifecycle.fitting import NEED_ASPECTS, fitted
from tune_jobs.lifecycle.reopening import reopen


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of eight people, of unknown aspect, prepared."""
    root = tmp_path_factory.mktemp("hands")
    for number in range(24):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8))
        (root / f"p{number // 3}").mkdir(exist_ok=True)
        image.resize((96, 72), Image.Resampling.BICUBIC).save(root / f"p{number // 3}" / f"{number}.png")
    out = tmp_path_factory.mktemp("prepared")
    prepare_folder(root, out)
    return out


def settings(folder: Path, storage: Path, *strategies: str) -> SweepSettings:
    data = PreparedData(source="prepared", folder=folder)
    return SweepSettings(name="mine", data=data, strategies=strategies, storage=storage)


def test_strategies_that_need_aspects_are_left_out_where_there_are_none(
    unknown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NEED_ASPECTS == ("sequential", "sequential_ewc", "multi_branch", "aspect_specific")
    wanted = settings(unknown, tmp_path, "zero_shot", "sequential", "full", "multi_branch")
    found = fitted(wanted)
    assert found == settings(unknown, tmp_path, "zero_shot", "full")
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "left out of the sweep: sequential, multi_branch, since no training image has a known aspect" in told
    assert fitted(found) == found
    assert capsys.readouterr().out == ""


def test_a_sweep_of_nothing_else_is_refused(unknown: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sequential, aspect_specific: no training image has a known aspect"):
        fitted(settings(unknown, tmp_path, "sequential", "aspect_specific"))


def test_points_of_a_strategy_that_is_left_out_are_refused(unknown: Path, tmp_path: Path) -> None:
    found = settings(unknown, tmp_path, "full", "sequential")
    values = found.model_dump() | {"search": {"points": [{"strategy": "sequential"}]}}
    with pytest.raises(InputError, match=r"search.points\[0\]: 'sequential' is not one of full"):
        fitted(SweepSettings.model_validate(values))


def test_drawn_hands_have_aspects(tmp_path: Path) -> None:
    wanted = SweepSettings(name="mine", storage=tmp_path, strategies=NEED_ASPECTS)
    assert fitted(wanted) == wanted


def test_a_sweep_is_taken_up_by_the_settings_that_it_was_begun_with(unknown: Path, tmp_path: Path) -> None:
    wanted = settings(unknown, tmp_path / "runs", "zero_shot", "sequential")
    (tmp_path / "mine.yaml").write_text(dump_settings(wanted))
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / SETTINGS).write_text(dump_settings(fitted(load_settings(tmp_path / "mine.yaml"))))
    assert reopen(tmp_path / "mine.yaml", name=None, overrides=[]).settings.strategies == ("zero_shot",)


def test_what_cannot_be_used_is_named_before_anything_starts(
    unknown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"storage: .*file/runs: lies below a file"):
        fitted(settings(unknown, tmp_path / "file" / "runs", "full"))
    missing = settings(tmp_path / "none", tmp_path, "full")
    with pytest.raises(InputError, match=r"none: no such folder; run `prepare` with --out"):
        fitted(missing)
    weights = BackboneSettings(name="ViT-B-32", pretrained=str(tmp_path / "no.pt"))
    with pytest.raises(InputError, match=r"no\.pt"):
        fitted(settings(unknown, tmp_path, "full").model_copy(update={"backbone": weights}))
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    assert fitted(missing) == missing, "what the nodes of a cluster see is theirs to say"


TOWER = BackboneSettings(name="timm/test_vit", pretrained="random")


def test_every_backbone_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    wanted = SweepSettings.model_validate(
        {"backbone": ["handclip-nano", "ViT-B-33", TOWER, "RN50", "timm/nothing"], "storage": tmp_path, "trials": 80}
    )
    with pytest.raises(InputError) as caught:
        fitted(wanted)
    told = str(caught.value)
    assert "unknown model 'ViT-B-33'" in told
    assert "RN50 needs weights: a tag" in told
    assert "timm has no model 'nothing'" in told
    assert told.count("; backbone.") == 2


def test_what_reads_texts_is_not_tried_on_image_towers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"backbone": [BackboneSettings(), TOWER], "strategies": ["full", "clip_reid"], "storage": tmp_path}
    both = SweepSettings.model_validate(values)
    assert both.arms == ("full@handclip-nano", "full@test_vit", "clip_reid@handclip-nano")
    assert fitted(both) == both
    told = capsys.readouterr().out
    assert told == ("-- not tried on timm/test_vit: clip_reid, since an image tower has no text tower to read with\n")
    alone = SweepSettings.model_validate(values | {"backbone": TOWER})
    assert fitted(alone).strategies == ("full",)
    assert capsys.readouterr().out.startswith("-- left out of the sweep: clip_reid, since an image tower has no text")
    with pytest.raises(InputError, match=r"strategies: clip_reid: an image tower has no text tower .*; choose others"):
        fitted(SweepSettings.model_validate(values | {"backbone": TOWER, "strategies": ["clip_reid"]}))


CONVOLUTIONS = BackboneSettings(name="timm/test_convnext", pretrained="random")


def test_lora_is_not_tried_on_attention_that_a_backbone_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"backbone": [CONVOLUTIONS, TOWER], "strategies": ["full", "lora"], "storage": tmp_path}
    both = fitted(SweepSettings.model_validate(values))
    assert capsys.readouterr().out == (
        "-- not tried on timm/test_convnext: lora with targets attention, of which it has no maps\n"
    )
    assert dict(both.search.ranges) == {"lora@test_convnext/targets": ("mlp", "both")}
    space = both.search.space(both.arms, both.task)
    first = space.draw("lora@test_convnext", lambda _, part: first_of(part)).strategy
    assert isinstance(first, Lora)
    assert first.targets == "mlp"
    assert fitted(both) == both
    assert capsys.readouterr().out == ""
    alone = values | {"backbone": CONVOLUTIONS}
    narrow = SweepSettings.model_validate(alone | {"search": {"ranges": {"lora/targets": ["both", "attention"]}}})
    assert dict(fitted(narrow).search.ranges) == {"lora/targets": ("both",)}
    nothing = SweepSettings.model_validate(alone | {"search": {"ranges": {"lora/targets": ["attention"]}}})
    with pytest.raises(InputError, match=r"has no maps of attention that it can adapt; lora/targets can be mlp, both"):
        fitted(nothing)
