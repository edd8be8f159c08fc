import pytest
import torch
from torch import Tensor

from handclip_core.models.adapters import Place, adapter_prefixes, insert_adapters
from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone

BLOCKS = "visual.transformer.resblocks"
PLACES = {
    ("vit", Place.ATTENTION): ["ls_1"],
    ("vit", Place.MLP): ["ls_2"],
    ("vit", Place.BOTH): ["ls_1", "ls_2"],
    ("resnet", Place.ATTENTION): ["layer4"],
    ("resnet", Place.MLP): ["layer1", "layer2", "layer3"],
    ("resnet", Place.BOTH): ["layer1", "layer2", "layer3", "layer4"],
}
everywhere = pytest.mark.parametrize(("tower", "place"), PLACES, ids=str)


def images(backbone: Backbone) -> Tensor:
    return torch.rand(3, 3, backbone.image_px, backbone.image_px, generator=torch.Generator().manual_seed(1))


@everywhere
def test_adapters_start_as_the_identity(tiny_backbones: dict[str, BackboneSettings], tower: str, place: Place) -> None:
    backbone = load_backbone(tiny_backbones[tower])
    pixels = images(backbone)
    expected = backbone(pixels)
    insert_adapters(backbone, bottleneck=4, place=place)
    found = backbone(pixels)
    assert torch.equal(found.projected, expected.projected)
    assert torch.equal(found.features, expected.features)


@everywhere
def test_adapters_stand_where_place_says_and_add_nothing_else(
    tiny_backbones: dict[str, BackboneSettings], tower: str, place: Place
) -> None:
    backbone = load_backbone(tiny_backbones[tower])
    before = {name for name, _ in backbone.named_parameters()}
    insert_adapters(backbone, bottleneck=4, place=place)
    prefixes = adapter_prefixes(backbone)
    wanted = PLACES[tower, place]
    owners = [f"{BLOCKS}.{i}.{part}." for i in range(3) for part in wanted] if tower == "vit" else wanted
    assert len(prefixes) == len(owners)
    assert all(any(owner in prefix for prefix in prefixes) for owner in owners)
    added = {name for name, _ in backbone.named_parameters()} - before
    assert added == {name for name in added if name.startswith(tuple(f"{prefix}." for prefix in prefixes))}
    assert len(added) == 4 * len(prefixes)


def test_a_map_is_adapted_channel_by_channel_at_every_place(tiny_backbones: dict[str, BackboneSettings]) -> None:
    """x + up(gelu(down(x))) of the channels at a place, written out."""
    backbone = load_backbone(tiny_backbones["resnet"])
    insert_adapters(backbone, bottleneck=3, place=Place.ATTENTION)
    (prefix,) = adapter_prefixes(backbone)
    adapter = backbone.get_submodule(prefix)
    for tensor in adapter.parameters():
        torch.nn.init.normal_(tensor, generator=torch.Generator().manual_seed(tensor.numel()))
    channels = adapter.get_parameter("up.bias").numel()
    hidden = torch.rand(2, channels, 2, 3, generator=torch.Generator().manual_seed(0))
    found = backbone.get_submodule(prefix.rpartition(".")[0])(hidden)
    weights = dict(adapter.named_parameters())
    for row, column in ((0, 0), (1, 2)):
        x = hidden[:, :, row, column]
        down = x @ weights["down.weight"].T + weights["down.bias"]
        gelu = down * 0.5 * (1 + torch.erf(down / 2**0.5))
        expected = x + gelu @ weights["up.weight"].T + weights["up.bias"]
        torch.testing.assert_close(found[:, :, row, column], expected)
