"""Weights of other origins in a model: loaded as they are, or refused with what they hold and what was wanted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone

State = dict[str, Tensor]


def settings_of(tiny: BackboneSettings, path: Path) -> BackboneSettings:
    return tiny.model_copy(update={"pretrained": str(path)})


def other_weights(tiny: BackboneSettings) -> Backbone:
    """A backbone with text tower whose weights are not those of ``tiny``."""
    backbone = load_backbone(tiny, text=True)
    generator = torch.Generator().manual_seed(5)
    for tensor in backbone.parameters():
        tensor.data.add_(0.02 * torch.randn(tensor.shape, generator=generator))
    return backbone


def loaded(tiny: BackboneSettings, content: object, folder: Path, *, text: bool = False) -> Backbone:
    torch.save(content, folder / "w.pt")
    return load_backbone(settings_of(tiny, folder / "w.pt"), text=text)


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def alone(state: State) -> State:
    return {name.removeprefix("visual."): tensor for name, tensor in state.items() if name.startswith("visual.")}


SHAPES: dict[str, Callable[[State], object]] = {
    "lightning": lambda state: {"state_dict": prefixed(state, "model."), "epoch": 1, "hyper_parameters": {"lr": 0.1}},
    "compiled and wrapped": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "training loop": lambda state: {"model_state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(())}}}},
    "half": lambda state: {name: tensor.bfloat16() for name, tensor in state.items()},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_checkpoints_of_other_programs_give_their_weights(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, shape: str
) -> None:
    source = other_weights(tiny_backbones["vit"])
    found = loaded(tiny_backbones["vit"], SHAPES[shape](source.state_dict()), tmp_path, text=True)
    for name, tensor in source.state_dict().items():
        expected = tensor.bfloat16().float() if shape == "half" else tensor
        assert torch.equal(found.state_dict()[name], expected), name
    assert found.notes == ()


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_an_image_tower_alone_serves_as_long_as_no_text_is_read(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, tower: str
) -> None:
    source = other_weights(tiny_backbones[tower])
    found = loaded(tiny_backbones[tower], alone(source.state_dict()), tmp_path)
    assert torch.equal(found.get_parameter("visual.conv1.weight"), source.get_parameter("visual.conv1.weight"))
    with pytest.raises(InputError, match=r"w.pt: holds the image tower of .* alone, but texts are to be read"):
        load_backbone(settings_of(tiny_backbones[tower], tmp_path / "w.pt"), text=True)


def test_heads_are_left_aside_and_told(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    state = prefixed(other_weights(tiny_backbones["vit"]).state_dict(), "backbone.")
    found = loaded(
        tiny_backbones["vit"], {**state, "head.weight": torch.ones(2), "neck.bn.bias": torch.ones(1)}, tmp_path
    )
    (note,) = found.notes
    assert note.endswith("w.pt: took CLIP's weights and left 'head', 'neck' aside, which will be made anew")


def test_of_two_copies_the_first_is_taken_and_told(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path) -> None:
    source = other_weights(tiny_backbones["vit"])
    average = {name: tensor * 0 for name, tensor in source.state_dict().items()}
    found = loaded(tiny_backbones["vit"], {"model": source.state_dict(), "ema": average}, tmp_path)
    assert torch.equal(found.get_parameter("visual.proj"), source.get_parameter("visual.proj"))
    assert found.notes[0].endswith("took 'model'; 'ema' has the same tensors")


def test_positions_of_another_image_size_are_fitted(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    folder = Path(tiny_backbones["vit"].name.removeprefix("local-dir:"))
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg"]["image_size"] = 64
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    source = other_weights(tiny_backbones["vit"])
    larger = BackboneSettings(name=f"local-dir:{tmp_path}")
    found = loaded(larger, source.state_dict(), tmp_path, text=True)
    assert found.image_px == 64
    assert found.get_parameter("visual.positional_embedding").shape == (65, 32)
    assert torch.equal(found.get_parameter("visual.proj"), source.get_parameter("visual.proj"))


def deeper(state: State) -> State:
    more = {
        name.replace("resblocks.2", "resblocks.3"): tensor for name, tensor in state.items() if "resblocks.2" in name
    }
    return {**state, **more}


def refused(change: Callable[[State], State]) -> Callable[[State], object]:
    return lambda state: change(dict(state))


WRONG: dict[str, tuple[Callable[[State], object], str]] = {
    "nothing": (
        refused(lambda _: {}),
        "holds no tensor that has a name; nothing of it is named as the image tower of local-dir:",
    ),
    "another library": (
        refused(lambda _: {"layer.weight": torch.ones(2, 3)}),
        r"holds 1 tensors \('layer.weight' \[2, 3\]\); nothing of it is named",
    ),
    "deeper": (refused(deeper), "of another model: 12 of its tensors are none of local-dir:.*, 'visual.transformer"),
    "a part": (
        refused(lambda state: {name: value for name, value in state.items() if "resblocks.1" not in name}),
        r"holds \d+ tensors .*; 12 of the \d+ tensors that local-dir:.* wants are not there: 'visual.transformer",
    ),
    "wider": (
        refused(lambda state: {**state, "visual.proj": torch.ones(32, 99)}),
        r"'visual.proj' is \[32, 99\] in the file, local-dir:.* wants \[32, 16\]",
    ),
    "quantised": (
        refused(lambda state: {**state, "visual.proj": state["visual.proj"].to(torch.int8)}),
        "'visual.proj' is of type torch.int8; floating-point weights are needed",
    ),
    "two towers": (
        refused(lambda state: {**prefixed(state, "student."), **prefixed(state, "teacher.")}),
        r"holds several image towers \('student', 'teacher'\)",
    ),
    "not a number": (
        refused(lambda state: {**state, "visual.ln_pre.bias": torch.tensor([float("nan")] * 2 + [0.0] * 30)}),
        "2 of the 32 values of 'visual.ln_pre.bias' are not finite",
    ),
    "too large for half": (
        refused(lambda state: {**state, "visual.ln_pre.bias": torch.full((32,), 1e6).half()}),
        "32 of the 32 values of 'visual.ln_pre.bias' are not finite",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_named(tiny_backbones: dict[str, BackboneSettings], tmp_path: Path, case: str) -> None:
    change, message = WRONG[case]
    state = load_backbone(tiny_backbones["vit"], text=True).state_dict()
    with pytest.raises(InputError, match=f"w.pt: {message}") as caught:
        loaded(tiny_backbones["vit"], change(state), tmp_path)
    assert "\n" not in str(caught.value)
    assert "again" not in str(caught.value), "to fetch it again would not help"


def test_finite_weights_whose_sum_is_infinite_are_used(
    tiny_backbones: dict[str, BackboneSettings], tmp_path: Path
) -> None:
    state = load_backbone(tiny_backbones["vit"], text=True).state_dict()
    large = torch.full((32,), torch.finfo(torch.float32).max)
    found = loaded(tiny_backbones["vit"], {**state, "visual.ln_pre.bias": large}, tmp_path)
    assert torch.equal(found.state_dict()["visual.ln_pre.bias"], large)
