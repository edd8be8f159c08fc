"""A CLIP of transformers: the same embeddings, from its folder, its file and its names of old."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.weights.hugging_face import open_clip_config

transformers = pytest.importorskip("transformers", reason="peft brings transformers, if it is installed")


def saved(folder: Path, act: str = "quick_gelu") -> Any:
    """A small CLIPModel with random weights, saved in ``folder``."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**tower, "image_size": 32, "patch_size": 16, "hidden_act": act}
    text = {**tower, "max_position_embeddings": 16, "hidden_act": act}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)
    torch.manual_seed(2)
    model = transformers.CLIPModel(config).eval()
    for tensor in model.parameters():
        tensor.data.add_(0.1 * torch.randn(tensor.shape))
    model.save_pretrained(folder)
    return model


def embeddings(model: Any, backbone: Backbone, tokens: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What transformers and what the backbone make of an image and a text."""
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        seen = model.vision_model((pixels - backbone.mean) / backbone.std).pooler_output
        read = model.text_model(tokens).pooler_output
        theirs = (model.visual_projection(seen), model.text_projection(read))
        return theirs, (backbone(pixels).projected, backbone.encode_text(tokens))


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_a_folder_of_transformers_gives_the_same_embeddings(tmp_path: Path, act: str) -> None:
    model = saved(tmp_path, act)
    backbone = load_backbone(BackboneSettings(name=f"local-dir:{tmp_path}"), text=True)
    tokens = backbone.tokenize(["a hand", "the palm of a left hand"])
    theirs, ours = embeddings(model, backbone, tokens)
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    assert backbone.temperature == pytest.approx(1 / model.logit_scale.exp().item())
    assert backbone.notes == ()


@pytest.mark.parametrize("spelling", ["wrapped", "position ids", "image tower alone"])
def test_other_spellings_of_its_names_give_the_same_weights(tmp_path: Path, spelling: str) -> None:
    saved(tmp_path)
    expected = load_backbone(BackboneSettings(name=f"local-dir:{tmp_path}")).state_dict()
    state = load_file(tmp_path / "model.safetensors")
    if spelling == "wrapped":
        state = {f"model.clip.{name}": tensor for name, tensor in state.items()}
    if spelling == "position ids":
        state["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    if spelling == "image tower alone":
        vision = {name: tensor for name, tensor in state.items() if name.startswith("visi")}
        state = {name.removeprefix("vision_model."): tensor for name, tensor in vision.items()}
        state["visual_projection.weight"] = load_file(tmp_path / "model.safetensors")["visual_projection.weight"]
    save_file(state, tmp_path / "other.safetensors")
    settings = BackboneSettings(name=f"local-dir:{tmp_path}", pretrained=str(tmp_path / "other.safetensors"))
    found = load_backbone(settings).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_normalisation_is_that_of_the_folder(tmp_path: Path) -> None:
    saved(tmp_path)
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.3], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")
    backbone = load_backbone(BackboneSettings(name=f"local-dir:{tmp_path}"))
    assert backbone.mean.flatten().tolist() == pytest.approx(values["image_mean"])
    assert backbone.std.flatten().tolist() == pytest.approx(values["image_std"])


def test_what_a_configuration_leaves_out_is_the_default_of_transformers() -> None:
    reference = transformers.CLIPConfig().to_dict()
    short = open_clip_config({"model_type": "clip", "vision_config": {}, "text_config": {}}, source="x")
    assert short == open_clip_config(reference, source="x")
    assert (short["embed_dim"], short["vision_cfg"]["head_width"], short["quick_gelu"]) == (512, 64, True)


@pytest.mark.parametrize(
    "config", [{"model_type": "siglip"}, {"model_type": "clip", "vision_config": {"hidden_act": "relu"}}]
)
def test_another_model_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"x: model_type .*; a CLIPModel with gelu or quick_gelu in both towers is needed"
    ):
        open_clip_config(config, source="x")


def test_a_folder_of_the_image_tower_alone_serves_until_a_text_is_read(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", "gelu")
    expected = load_backbone(BackboneSettings(name=f"local-dir:{tmp_path / 'whole'}")).visual.state_dict()
    config = whole.config.vision_config
    config.projection_dim = 12
    tower = transformers.CLIPVisionModelWithProjection(config)
    tower.load_state_dict(whole.state_dict(), strict=False)
    tower.save_pretrained(tmp_path / "tower")
    settings = BackboneSettings(name=f"local-dir:{tmp_path / 'tower'}")
    found = load_backbone(settings).visual.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(InputError, match=r"holds the image tower of .* alone, but texts are to be read"):
        load_backbone(settings, text=True)
