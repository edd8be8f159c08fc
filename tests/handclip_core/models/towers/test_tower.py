"""What every kind of image tower keeps, on a small random member of each."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from handclip_core.errors import InputError
from handclip_core.models.adapters import Place, insert_adapters
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone
from handclip_core.models.lora import LoraTargets, insert_lora, lora_prefixes, merged, possible_targets
from handclip_core.models.readout import Pooling, ReadoutSettings
from tests import small_towers
from tests.small_towers import KINDS, small, small_backbone

WITHOUT_ATTENTION = ("convnext", "convnext_mlp", "only_resnet")
WITH_CLASS_TOKEN = (
    "own_vit", "own_vit_mean", "own_vit_pool", "vit", "relpos", "eva02", "eva01", "pe", "dinov2", "dinov3",
)  # fmt: skip
WITH_DROPPED_PATHS = ("vit", "convnext", "swin")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def small_backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    with pytest.MonkeyPatch.context() as patch:
        return {kind: small_backbone(kind, tmp_path_factory.mktemp(kind), patch) for kind in KINDS}


@pytest.fixture
def backbone(kind: str, small_backbones: dict[str, Backbone]) -> Backbone:
    return small_backbones[kind].copy().eval()


def images(backbone: Backbone, count: int = 2) -> Tensor:
    return torch.rand(count, 3, backbone.image_px, backbone.image_px, generator=torch.Generator().manual_seed(1))


@every_kind
@torch.no_grad()
def test_embeddings_are_those_of_the_tower_and_of_any_two_halves(backbone: Backbone) -> None:
    pixels = images(backbone)
    expected = backbone.visual((pixels - backbone.mean) / backbone.std)
    expected = expected[0] if isinstance(expected, tuple) else expected
    whole = backbone(pixels)
    torch.testing.assert_close(whole.projected, expected, rtol=1e-6, atol=1e-6)
    assert whole.projected.shape == (2, backbone.dim)
    assert whole.features.shape == (2, backbone.width)
    for n in range(len(backbone.blocks())):
        joined = backbone.tail_blocks(backbone.head_blocks(pixels, n), n)
        assert torch.equal(joined.features, whole.features)
        assert torch.equal(joined.projected, whole.projected)


@every_kind
@torch.no_grad()
def test_every_parameter_lies_in_one_block_and_acts_there_first(backbone: Backbone) -> None:
    pixels, blocks = images(backbone), backbone.blocks()
    before = [backbone.head_blocks(pixels, n) for n in range(len(blocks))]
    owners = set()
    generator = torch.Generator().manual_seed(2)
    for name, tensor in backbone.visual.named_parameters(prefix="visual"):
        inside = [k for k, prefixes in enumerate(blocks) if any(f"{name}.".startswith(f"{p}.") for p in prefixes)]
        assert len(inside) == 1, name
        owners.add(inside[0])
        if inside[0] + 1 == len(blocks):
            continue
        kept = tensor.clone()
        tensor.add_(0.5 * torch.randn(tensor.shape, generator=generator))
        assert torch.equal(backbone.head_blocks(pixels, inside[0]), before[inside[0]]), name
        assert not torch.equal(backbone.head_blocks(pixels, inside[0] + 1), before[inside[0] + 1]), name
        tensor.copy_(kept)
    assert owners == set(range(len(blocks)))


@every_kind
@torch.no_grad()
def test_maps_are_read_anywhere_and_keep_their_places(backbone: Backbone, kind: str) -> None:
    readout = backbone.readout(ReadoutSettings(depths=(0.1, 1.0), pool=Pooling.MEAN))
    found = backbone(images(backbone), readout).readout
    assert found is not None
    assert found.shape == (2, readout.width)
    token = ReadoutSettings(depths=(1.0,), pool=Pooling.TOKEN)
    if kind in WITH_CLASS_TOKEN:
        assert backbone.readout(token).width > 0
    else:
        with pytest.raises(InputError, match="no class token"):
            backbone.readout(token)
    # A change in one corner of the image moves that corner of the first map most.
    pixels = images(backbone, 1)
    half = backbone.image_px // 2
    changed = pixels.clone()
    changed[..., :half, :half] = 1 - changed[..., :half, :half]
    maps = [
        backbone._tower.feature_map(backbone.visual, backbone.head_blocks(one, 1)).values for one in (pixels, changed)
    ]
    moved = torch.nn.functional.adaptive_avg_pool2d((maps[0] - maps[1]).abs().sum(dim=1), (2, 2))[0]
    assert moved.argmax() == 0


@every_kind
@pytest.mark.parametrize("targets", LoraTargets)
def test_updates_start_as_nothing_learn_and_merge(backbone: Backbone, kind: str, targets: LoraTargets) -> None:
    with torch.no_grad():
        before = backbone(images(backbone)).projected

    def insert() -> None:
        insert_lora(backbone, rank=2, alpha=4.0, dropout=0.0, targets=targets, last_blocks=None)

    possible = possible_targets(backbone)
    if kind in WITHOUT_ATTENTION and targets is LoraTargets.ATTENTION:
        assert targets not in possible
        with pytest.raises(InputError, match=r"strategy.targets: .* has no maps of attention; choose mlp"):
            insert()
        return
    assert targets in possible
    insert()
    assert lora_prefixes(backbone)
    updates = {name: tensor for name, tensor in backbone.named_parameters() if ".lora_" in name}
    found = backbone(images(backbone)).projected
    torch.testing.assert_close(found, before, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    still = [
        name
        for name, tensor in updates.items()
        if ".lora_B." in name and (tensor.grad is None or not tensor.grad.any())
    ]
    assert still == []
    # In double precision: a deep random tower makes single precision's rounding large.
    backbone.double()
    pixels, generator = images(backbone).double(), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor in updates.values():
            tensor.normal_(std=0.5, generator=generator)
        moved = backbone(pixels).projected
        assert not torch.allclose(moved, before.double(), atol=1e-3)
        torch.testing.assert_close(merged(backbone)(pixels).projected, moved, rtol=1e-8, atol=1e-8)


@every_kind
@pytest.mark.parametrize("place", Place)
def test_adapters_start_as_the_identity_and_act_on_the_embedding(backbone: Backbone, place: Place) -> None:
    pixels = images(backbone)
    expected = backbone(pixels).projected
    insert_adapters(backbone, bottleneck=3, place=place)
    found = backbone(pixels).projected
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    raised = [name for name, tensor in backbone.named_parameters() if name.endswith(".up.weight")]
    assert raised
    assert all(backbone.get_parameter(name).grad.any() for name in raised)  # type: ignore[union-attr]


@every_kind
def test_frozen_blocks_give_the_same_in_training_mode(backbone: Backbone, kind: str) -> None:
    pixels, cut = images(backbone), 2
    trained = tuple(f"{prefix}." for block in backbone.blocks()[cut:] for prefix in block)
    for name, tensor in backbone.named_parameters():
        tensor.requires_grad_(f"{name}.".startswith(trained))
    expected = backbone.head_blocks(pixels, cut)
    backbone.train()
    torch.manual_seed(0)
    torch.testing.assert_close(backbone.head_blocks(pixels, cut), expected, rtol=1e-6, atol=1e-6)
    whole = [backbone(pixels).projected for _ in range(4)]
    assert all(torch.equal(whole[0], other) for other in whole) == (kind not in WITH_DROPPED_PATHS)


@every_kind
def test_recomputing_blocks_gives_the_same_gradients(backbone: Backbone) -> None:
    pixels = images(backbone)
    found = []
    for again in (False, True):
        backbone.recompute = again
        torch.manual_seed(0)
        backbone.train().zero_grad()
        backbone(pixels).projected.square().sum().backward()
        found.append([tensor.grad.clone() for tensor in backbone.visual.parameters() if tensor.grad is not None])
    assert found[0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_recomputing_keeps_fewer_activations(small_backbones: dict[str, Backbone]) -> None:
    backbone = small_backbones["own_vit"].copy().train()

    def kept(*, again: bool) -> int:
        sizes: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        backbone.recompute = again
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            backbone(images(backbone)).projected.sum()
        return sum(sizes)

    assert kept(again=True) < kept(again=False) / 2


def test_a_tower_whose_blocks_share_what_the_stem_computes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, shrunk, ends = small_towers.OF_TIMM["relpos"]
    shared = {"relpos": (name, {**shrunk, "shared_rel_pos": True}, ends)}
    monkeypatch.setattr(small_towers, "OF_TIMM", shared)
    with pytest.raises(InputError, match="kind VisionTransformerRelPos, which does not fall into blocks"):
        load_backbone(small("relpos", tmp_path, monkeypatch))


def test_recomputing_and_moving_statistics_exclude_each_other() -> None:
    with pytest.raises(InputError, match="recompute: would move the statistics of batch_norm twice a step"):
        BackboneSettings.parse({"recompute": True, "batch_norm": "moving"}, source="x")
