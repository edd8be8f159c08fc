"""Image towers of timm by themselves: names, weights, what they are and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import save_file

from handclip_core.data.framing import Framing
from handclip_core.errors import InputError
from handclip_core.models.architectures import config_of
from handclip_core.models.backbone import BackboneSettings, load_backbone
from tests.small_towers import small

VIT = "timm/test_vit"


def settings(name: str, weights: object = "random", **more: Any) -> BackboneSettings:
    return BackboneSettings(name=name, pretrained=None if weights is None else str(weights), **more)


def refused(name: str, weights: object = "random", *, text: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(settings(name, weights), text=text)
    return str(caught.value)


def test_preprocessing_is_that_of_timm() -> None:
    backbone = load_backbone(settings("timm/test_resnet", framing=Framing.CROP))
    found = timm.get_pretrained_cfg("test_resnet")
    assert found is not None
    assert backbone.image_px == found.input_size[1] == 160
    assert backbone.mean.flatten().tolist() == pytest.approx(found.mean)
    assert backbone.std.flatten().tolist() == pytest.approx(found.std)
    assert (backbone.frame.interpolation, found.interpolation) == ("bilinear", "bilinear")
    assert backbone.frame.framing is Framing.CROP
    assert (backbone.text, backbone.logit_scale) == (None, None)


@pytest.mark.parametrize("wrapped", ["", "module.", "state_dict"])
def test_a_file_as_timm_saves_it_gives_what_timm_computes(wrapped: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs: Any = timm.create_model("test_vit", num_classes=7).eval()
    state: dict[str, Any] = {f"{wrapped}{name}": value for name, value in theirs.state_dict().items()}
    if wrapped == "state_dict":
        state = {"state_dict": theirs.state_dict(), "epoch": 3}
    torch.save(state, tmp_path / "weights.pth")
    backbone = load_backbone(settings(VIT, tmp_path / "weights.pth"))
    pixels = torch.rand(2, 3, 160, 160)
    theirs.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(pixels).projected, theirs((pixels - backbone.mean) / backbone.std), rtol=1e-5, atol=1e-5
        )
    assert backbone.notes == ()


def test_a_classifier_inside_the_head_is_left_out(tmp_path: Path) -> None:
    save_file(timm.create_model("test_convnext", num_classes=5).state_dict(), tmp_path / "model.safetensors")
    assert load_backbone(settings("timm/test_convnext", tmp_path)).dim == 64


def test_files_of_dinov2_as_meta_published_them_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "img_size": 28,
        "pretrained_cfg_overlay": {"input_size": (3, 28, 28)},
    }
    create = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda name, **given: create(name, **{**given, **small}))
    torch.manual_seed(5)
    theirs: Any = timm.create_model("vit_small_patch14_dinov2", num_classes=0).eval()
    state = theirs.state_dict() | {"mask_token": torch.zeros(1, 32)}
    torch.save(state, tmp_path / "dinov2.pth")
    backbone = load_backbone(settings("timm/vit_small_patch14_dinov2", tmp_path / "dinov2.pth"))
    assert torch.equal(backbone.visual.get_parameter("trunk.pos_embed"), theirs.pos_embed)
    assert backbone.notes == ()


@torch.no_grad()
def test_the_embedding_of_dinov3_is_its_class_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(small("dinov3", tmp_path, monkeypatch))
    pixels = torch.rand(2, 3, 32, 32)
    found, trunk = backbone(pixels), cast("Any", backbone.visual).trunk
    tokens = trunk.forward_features((pixels - backbone.mean) / backbone.std)
    torch.testing.assert_close(found.projected, tokens[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.features, tokens[:, trunk.num_prefix_tokens :].mean(dim=1), rtol=1e-5, atol=1e-5)


def test_a_run_describes_its_tower_so_that_it_is_built_again(tmp_path: Path) -> None:
    backbone = load_backbone(settings(VIT))
    described = config_of(VIT, backbone.visual)
    assert described["timm_architecture"].startswith("test_vit")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    again = load_backbone(settings(f"local-dir:{tmp_path}"))
    assert again.frame == backbone.frame
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in backbone.named_parameters()}


def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    assert refused("timm/test_vt").startswith("backbone.name: timm has no model 'test_vt'")
    assert "there are test_vit" in refused("timm/est_vit")
    assert "timm has no weights 'openai' of test_vit; there are r160_in1k" in refused("timm/test_vit.openai")
    assert "neither a file nor a tag of timm/test_vit (r160_in1k)" in refused(VIT, "nothing.pth")
    assert "needs weights: a tag (" in refused("timm/resnet50", None)
    assert "kind EfficientNet, which does not fall into blocks" in refused("timm/test_efficientnet")
    assert "kind MaxxVit, which does not fall into blocks" in refused("timm/test_maxvit")
    distilled = "does not fall into blocks that are known here ('visual.trunk.dist_token' is in none)"
    assert distilled in refused("timm/deit_tiny_distilled_patch16_224")
    assert "timm/test_vit is an image tower alone; texts are read by a CLIP" in refused(VIT, text=True)
    torch.save(timm.create_model("test_vit2").state_dict(), tmp_path / "other.pth")
    assert "tensors that timm/test_vit wants are not there" in refused(VIT, tmp_path / "other.pth")


def test_published_weights_that_cannot_be_fetched_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: str, **given: Any) -> Any:
        del given
        raise OSError(f"{name}: no network")

    monkeypatch.setattr("timm.create_model", away)
    for name, weights in ((VIT, "r160_in1k"), (VIT, None), ("timm/test_vit.r160_in1k", None)):
        assert refused(name, weights).startswith("backbone.pretrained: no weights 'r160_in1k' of timm/test_vit")


def test_blocks_that_compute_something_else_than_timm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = sys.modules["handclip_core.models.towers.timm_towers"].TimmTransformer
    monkeypatch.setattr(kind, "steps", lambda tower, visual, steps=kind.steps: steps(tower, visual)[:-1])
    assert "(they compute something else)" in refused(VIT)


def test_images_may_have_another_size_and_positions_follow(tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = timm.create_model("test_vit", num_classes=0).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone(settings(VIT, tmp_path / "weights.pth", image_px=96))
    assert backbone.image_px == 96
    expected = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    expected.load_state_dict(theirs.state_dict())
    pixels = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(pixels).projected, expected((pixels - backbone.mean) / backbone.std), rtol=1e-4, atol=1e-5
        )
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config_of(VIT, backbone.visual)))
    assert load_backbone(settings(f"local-dir:{tmp_path}")).image_px == 96
    assert load_backbone(settings("timm/test_resnet", image_px=64)).image_px == 64
    with pytest.raises(InputError, match="image_px: ViT-B-32 has one size alone"):
        BackboneSettings.parse({"name": "ViT-B-32", "image_px": 96}, source="x")
