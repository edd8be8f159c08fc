import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.lora import LoraTargets, insert_lora, lora_prefixes, merged, restored

RANK, ALPHA = 2, 6.0
ATTENTION, MLP, BOTH = LoraTargets.ATTENTION, LoraTargets.MLP, LoraTargets.BOTH
MAPS = {
    ("vit", ATTENTION): ("in_proj", "out_proj"),
    ("vit", MLP): ("c_fc", "c_proj"),
    ("vit", BOTH): ("in_proj", "out_proj", "c_fc", "c_proj"),
    ("resnet", ATTENTION): ("q_proj", "k_proj", "v_proj", "c_proj"),
    ("resnet", MLP): ("conv1", "conv2", "conv3"),
    ("resnet", BOTH): ("conv1", "conv2", "conv3", "q_proj", "k_proj", "v_proj", "c_proj"),
}
everywhere = pytest.mark.parametrize(("tower", "targets"), MAPS, ids=str)
Backbones = dict[str, BackboneSettings]


def adapted(
    settings: BackboneSettings, targets: LoraTargets, *, dropout: float = 0.0, blocks: int | None = None
) -> Backbone:
    backbone = load_backbone(settings)
    torch.manual_seed(0)
    insert_lora(backbone, rank=RANK, alpha=ALPHA, dropout=dropout, targets=targets, last_blocks=blocks)
    return backbone


def trained(settings: BackboneSettings, targets: LoraTargets, *, dropout: float = 0.0) -> Backbone:
    """With a B that is not zero, as after training."""
    backbone = adapted(settings, targets, dropout=dropout)
    for name, tensor in updates_of(backbone).items():
        if ".lora_B." in name:
            nn.init.normal_(tensor, std=0.3)
    return backbone


def updates_of(backbone: Backbone) -> dict[str, nn.Parameter]:
    return {name: tensor for name, tensor in backbone.named_parameters() if ".lora_" in name}


def images(backbone: Backbone) -> Tensor:
    return torch.rand(3, 3, backbone.image_px, backbone.image_px, generator=torch.Generator().manual_seed(1))


@everywhere
def test_starts_as_pretrained(tiny_backbones: Backbones, tower: str, targets: LoraTargets) -> None:
    pretrained, backbone = load_backbone(tiny_backbones[tower]), adapted(tiny_backbones[tower], targets)
    with torch.no_grad():
        expected, found = pretrained(images(backbone)), backbone(images(backbone))
    # Attention rounds in another order where its projections are called one by one.
    tolerance = 0.0 if targets is MLP else 1e-6
    torch.testing.assert_close(found.projected, expected.projected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.features, expected.features, rtol=tolerance, atol=tolerance)


@everywhere
def test_adds_two_matrices_to_every_map_and_changes_no_weight(
    tiny_backbones: Backbones, tower: str, targets: LoraTargets
) -> None:
    pretrained = load_backbone(tiny_backbones[tower])
    backbone = adapted(tiny_backbones[tower], targets)
    added = updates_of(backbone)
    num_blocks = {("vit", part): 3 for part in ("in_proj", "out_proj", "c_fc", "c_proj")}
    num_blocks |= {("resnet", part): 4 for part in ("conv1", "conv2", "conv3")}
    maps = [name.split(".")[-4] for name in added]
    assert {part: maps.count(part) for part in maps} == {
        part: 2 * num_blocks.get((tower, part), 1) for part in MAPS[tower, targets]
    }
    kept = [value for name, value in backbone.state_dict().items() if name not in added]
    assert sum(value.numel() for value in kept) == sum(value.numel() for value in pretrained.state_dict().values())


@everywhere
def test_prefixes_name_the_matrices_and_nothing_else(
    tiny_backbones: Backbones, tower: str, targets: LoraTargets
) -> None:
    backbone = adapted(tiny_backbones[tower], targets)
    patterns = [prefix.split(".") for prefix in lora_prefixes(backbone)]

    def named(name: str) -> bool:
        parts = name.split(".")
        return any(
            all(part in (wanted, "*") or wanted == "*" for part, wanted in zip(parts, pattern, strict=False))
            for pattern in patterns
        )

    assert {name for name, _ in backbone.named_parameters() if named(name)} == updates_of(backbone).keys()


@everywhere
def test_every_matrix_learns_once_b_has_left_zero(tiny_backbones: Backbones, tower: str, targets: LoraTargets) -> None:
    backbone = adapted(tiny_backbones[tower], targets).train()
    matrices = updates_of(backbone)
    optimizer = torch.optim.SGD(matrices.values(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        encoded = backbone(images(backbone))
        (encoded.projected.square().sum() + encoded.features.square().sum()).backward()
        still = {name for name, tensor in matrices.items() if tensor.grad is None or not tensor.grad.any()}
        assert still == ({name for name in matrices if ".lora_A." in name} if step == 0 else set())
        optimizer.step()


@everywhere
def test_merged_weights_give_what_unmerged_ones_give(
    tiny_backbones: Backbones, tower: str, targets: LoraTargets
) -> None:
    backbone = trained(tiny_backbones[tower], targets, dropout=0.5)
    pretrained = load_backbone(tiny_backbones[tower])
    pixels = images(backbone)
    with torch.no_grad():
        before, expected = pretrained(pixels), backbone(pixels)
        plain = merged(backbone)
        found, again = plain(pixels), backbone(pixels)
        pairs = ((before.projected, expected.projected), (before.features, expected.features))
        assert max((old - new).abs().max() for old, new in pairs) > 1e-3, "the updates do nothing"
        torch.testing.assert_close(found.projected, expected.projected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.features, expected.features, rtol=1e-5, atol=1e-5)
        assert torch.equal(again.projected, expected.projected), "merging has touched the model"
        pretrained.load_state_dict(plain.state_dict())
        torch.testing.assert_close(pretrained(pixels).projected, expected.projected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tower", "block", "part", "plain_name"),
    [
        ("vit", "visual.transformer.resblocks.1.attn", "in_proj", "in_proj_weight"),
        ("vit", "visual.transformer.resblocks.0.mlp", "c_proj", "c_proj.weight"),
        ("resnet", "visual.layer2.0", "conv2", "conv2.weight"),
        ("resnet", "visual.attnpool", "v_proj", "v_proj.weight"),
    ],
)
def test_a_merged_weight_is_the_papers_sum(
    tiny_backbones: Backbones, tower: str, block: str, part: str, plain_name: str
) -> None:
    """W + alpha / rank * B A, one number after another; a convolution's kernel belongs to A."""
    pretrained = load_backbone(tiny_backbones[tower]).get_parameter(f"{block}.{plain_name}")
    backbone = trained(tiny_backbones[tower], BOTH)
    a, b = (backbone.get_parameter(f"{block}.{part}.lora_{side}.default.weight") for side in "AB")
    found = merged(backbone).get_parameter(f"{block}.{plain_name}")
    for out, into in ((0, 0), (3, 1), (5, 7)):
        change = sum(b[out, r].flatten() * a[r, into] for r in range(RANK))
        expected = pretrained[out, into] + ALPHA / RANK * change
        torch.testing.assert_close(found[out, into].reshape(-1), expected.reshape(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("tower", "targets", "blocks", "owners"),
    [
        ("vit", BOTH, 1, ["visual.transformer.resblocks.2."]),
        ("vit", MLP, 9, [f"visual.transformer.resblocks.{block}." for block in range(3)]),
        ("resnet", MLP, 2, ["visual.layer3.0.", "visual.layer4.0."]),
        ("resnet", BOTH, 2, ["visual.layer4.0.", "visual.attnpool."]),
        ("resnet", ATTENTION, 3, ["visual.attnpool."]),
    ],
)
def test_last_blocks_are_counted_from_the_output(
    tiny_backbones: Backbones, tower: str, targets: LoraTargets, blocks: int, owners: list[str]
) -> None:
    names = updates_of(adapted(tiny_backbones[tower], targets, blocks=blocks))
    assert all(name.startswith(tuple(owners)) for name in names)
    assert all(any(name.startswith(owner) for name in names) for owner in owners)


@everywhere
def test_dropout_acts_in_training_mode_alone(tiny_backbones: Backbones, tower: str, targets: LoraTargets) -> None:
    backbone = trained(tiny_backbones[tower], targets, dropout=0.5)
    pixels = images(backbone)

    def encode(seed: int) -> Tensor:
        torch.manual_seed(seed)
        embedded: Tensor = backbone(pixels).projected
        return embedded

    assert torch.equal(encode(0), encode(1))
    backbone.train()
    assert torch.equal(encode(0), encode(0))
    assert not torch.equal(encode(0), encode(1))


def test_random_matrices_come_from_the_global_generator(tiny_backbones: Backbones) -> None:
    one, same, other = (load_backbone(tiny_backbones["vit"]) for _ in range(3))
    for backbone, seed in ((one, 1), (same, 1), (other, 2)):
        torch.manual_seed(seed)
        insert_lora(backbone, rank=RANK, alpha=ALPHA, dropout=0.0, targets=BOTH, last_blocks=None)
    equal, differing = (
        [torch.equal(tensor, updates_of(two)[name]) for name, tensor in updates_of(one).items() if ".lora_A." in name]
        for two in (same, other)
    )
    assert all(equal)
    assert not any(differing)


def test_attention_of_another_kind_is_refused_and_its_mlp_is_not(tmp_path: Path) -> None:
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16, "qk_norm": True}
    text = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    settings = BackboneSettings(name=f"local-dir:{tmp_path}", pretrained="random")
    with pytest.raises(InputError, match=r"strategy.targets: .* attention of kind Attention; choose mlp"):
        adapted(settings, BOTH)
    assert updates_of(adapted(settings, MLP))


@everywhere
def test_merged_weights_are_restored_into_a_merged_copy_and_others_as_they_are(
    tiny_backbones: Backbones, tower: str, targets: LoraTargets
) -> None:
    tuned, host = trained(tiny_backbones[tower], targets), adapted(tiny_backbones[tower], targets)
    plain = merged(tuned).state_dict()
    found = restored(host, plain)
    assert not updates_of(found)
    assert updates_of(host), "the model itself was changed"
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in plain.items())
    assert restored(host, tuned.state_dict()) is host
    assert all(torch.equal(value, host.state_dict()[name]) for name, value in tuned.state_dict().items())
    pretrained = load_backbone(tiny_backbones[tower])
    assert restored(pretrained, plain) is pretrained
    with pytest.raises(RuntimeError, match="lora_A"):
        restored(pretrained, tuned.state_dict())
