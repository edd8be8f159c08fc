"""Names in a file and names in a model."""

import pytest
import torch

from handclip_core.models.weights.names import find

BLOCK = "transformer.resblocks.1"
WANTED = (
    "visual.conv1.weight", "visual.proj", f"visual.{BLOCK}.attn.in_proj_weight", f"visual.{BLOCK}.mlp.c_fc.bias",
    f"text.{BLOCK}.attn.in_proj_weight", "text.token_embedding.weight", "text.text_projection", "logit_scale",
)  # fmt: skip
FILE = {name: torch.full((3, 2), float(number)) for number, name in enumerate(WANTED)}
PLAIN = {name.removeprefix("text."): tensor for name, tensor in FILE.items()}
PREFIXES = ("", "module.", "_orig_mod.", "model.", "clip.", "module._orig_mod.", "model/module.", "a/b/model.clip.net.")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("file", [FILE, PLAIN], ids=["with text.", "as OpenAI"])
def test_any_nesting_of_prefixes_is_found(prefix: str, file: dict[str, torch.Tensor]) -> None:
    place = find({f"{prefix}{name}": tensor for name, tensor in file.items()}, WANTED)
    assert place is not None
    for name in WANTED:
        assert place.has(name)
        assert torch.equal(place.read(name), FILE[name])
    assert place.others("visual.") == []
    assert place.outside() == []


def test_wrappers_within_a_name_are_left_out() -> None:
    file = {name.replace("visual.", "visual._orig_mod.module."): tensor for name, tensor in FILE.items()}
    place = find(file, WANTED)
    assert place is not None
    assert all(place.has(name) for name in WANTED)


@pytest.mark.parametrize("prefix", ["", "visual.", "encoder.", "state_dict/model.visual."])
def test_an_image_tower_alone_is_found(prefix: str) -> None:
    file = {
        prefix + name.removeprefix("visual."): tensor for name, tensor in FILE.items() if name.startswith("visual.")
    }
    place = find({**file, f"{prefix.rpartition('/')[0]}/head.weight".lstrip("/"): torch.ones(1)}, WANTED)
    assert place is not None
    assert [name for name in WANTED if place.has(name)] == list(WANTED[:4])
    assert place.outside() == ["head"]


def test_tensors_of_another_depth_stand_out() -> None:
    deeper = f"visual.{BLOCK.replace('1', '7')}.mlp.c_fc.bias"
    place = find({**FILE, deeper: torch.ones(1), "visual.steps": torch.ones(1, dtype=torch.int64)}, WANTED)
    assert place is not None
    assert place.others("visual.") == [deeper]


def test_copies_in_another_mapping_or_under_another_prefix_are_rivals() -> None:
    for one, other in (("model/", "ema/"), ("student.", "teacher.")):
        place = find({f"{prefix}{name}": tensor for prefix in (one, other) for name, tensor in FILE.items()}, WANTED)
        assert place is not None
        assert (place.prefix, place.rivals) == (one, (other,))


def test_names_of_transformers_give_stacked_and_transposed_weights() -> None:
    owner = "vision_model.encoder.layers.1"
    parts = {f"{owner}.self_attn.{part}_proj.weight": torch.full((1, 2), float(i)) for i, part in enumerate("kqv")}
    file = {
        **parts,
        "visual_projection.weight": torch.arange(6.0).reshape(2, 3),
        f"{owner}.mlp.fc1.bias": torch.ones(2),
    }
    place = find({f"clip.{name}": tensor for name, tensor in file.items()}, WANTED)
    assert place is not None
    assert place.read(WANTED[2]).tolist() == [[1, 1], [0, 0], [2, 2]], "query, key, value"
    assert place.read("visual.proj").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not place.has("visual.conv1.weight")


def test_nothing_is_found_in_a_file_of_something_else() -> None:
    assert find({"layer1.0.conv1.weight.momentum": torch.ones(1)}, WANTED) is None
