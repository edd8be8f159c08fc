"""Readouts: what is pooled how, and that reading changes nothing of what the tower makes."""

import pytest
import torch
from torch.nn import functional

from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings, load_backbone
from handclip_core.models.readout import Pooling, ReadoutSettings, pooled
from handclip_core.types import FeatureMap

MAP = torch.rand(2, 3, 4, 6)
TOKEN = torch.rand(2, 3)


def by_a_loop(settings: ReadoutSettings, one: torch.Tensor, token: torch.Tensor | None) -> list[float]:
    """A map [C, H, W] as a vector, place by place."""
    channels, height, width = one.shape
    places = [one[:, y, x] for y in range(height) for x in range(width)]
    if settings.pool is Pooling.MEAN:
        return (sum(places, torch.zeros(channels)) / len(places)).tolist()
    if settings.pool is Pooling.GEM:
        powers = [place.clamp(min=1e-6) ** settings.power for place in places]
        return ((sum(powers, torch.zeros(channels)) / len(places)) ** (1 / settings.power)).tolist()
    if settings.pool is Pooling.ATTENTION:
        asked = sum(places, torch.zeros(channels)) / len(places) if token is None else token
        scores = torch.stack([(asked * place).sum() / channels**0.5 for place in places])
        weights = scores.exp() / scores.exp().sum()
        found: list[float] = (weights[None] @ torch.stack(places))[0].tolist()
        return found
    parts = settings.grid
    cells = one.unflatten(1, (parts, -1)).unflatten(3, (parts, -1)).mean(dim=(2, 4))
    return cells.flatten().tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("token", [None, TOKEN], ids=["no token", "token"])
@pytest.mark.parametrize("pool", [pool for pool in Pooling if pool not in (Pooling.TOKEN, Pooling.PYRAMID)])
def test_pooling_is_that_of_a_loop(pool: Pooling, token: torch.Tensor | None) -> None:
    settings = ReadoutSettings(pool=pool, grid=2)
    (found,) = pooled(FeatureMap(MAP, token), settings).values()
    for row in range(2):
        expected = by_a_loop(settings, MAP[row], None if token is None else token[row])
        assert found[row].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_class_token_is_read_if_there_is_one() -> None:
    settings = ReadoutSettings(pool=Pooling.TOKEN)
    assert pooled(FeatureMap(MAP, TOKEN), settings)["token"] is TOKEN
    with pytest.raises(InputError, match="no class token; choose attention"):
        pooled(FeatureMap(MAP), settings)


def test_a_grid_finer_than_the_map_is_the_map() -> None:
    assert torch.equal(pooled(FeatureMap(MAP), ReadoutSettings(grid=16))["4 x 6"], MAP.flatten(1))


@pytest.mark.parametrize(("grid", "sides"), [(1, (1,)), (3, (1, 2, 3)), (4, (1, 2, 4))])
def test_a_pyramid_is_grids_of_twice_as_many_parts_a_side_each(grid: int, sides: tuple[int, ...]) -> None:
    square = torch.rand(2, 3, 12, 12)
    found = pooled(FeatureMap(square), ReadoutSettings(pool=Pooling.PYRAMID, grid=grid))
    assert list(found) == [f"{side} x {side}" for side in sides]
    for name, side in zip(found, sides, strict=True):
        expected = [by_a_loop(ReadoutSettings(grid=side), one, None) for one in square]
        torch.testing.assert_close(found[name], torch.tensor(expected))


@pytest.mark.parametrize("size", [(7, 7), (9, 12), (14, 14), (5, 3)])
@pytest.mark.parametrize("grid", [2, 3, 4, 6])
def test_parts_that_do_not_come_out_even_are_those_of_adaptive_pooling(size: tuple[int, int], grid: int) -> None:
    uneven = torch.rand(2, 3, *size, dtype=torch.float64)
    (found,) = pooled(FeatureMap(uneven), ReadoutSettings(grid=grid)).values()
    sides = min(grid, size[0]), min(grid, size[1])
    torch.testing.assert_close(found, functional.adaptive_avg_pool2d(uneven, sides).flatten(1))


def test_levels_finer_than_the_map_are_there_once() -> None:
    found = pooled(FeatureMap(MAP[:, :, :2, :2]), ReadoutSettings(pool=Pooling.PYRAMID, grid=16))
    assert list(found) == ["1 x 1", "2 x 2"]


@pytest.mark.parametrize("tower", ["vit", "resnet"])
@torch.no_grad()
def test_reading_changes_nothing_and_begins_anywhere_before_the_first_block_that_is_read(
    tiny_backbones: dict[str, BackboneSettings], tower: str
) -> None:
    backbone = load_backbone(tiny_backbones[tower])
    shown = torch.rand(3, 3, backbone.image_px, backbone.image_px)
    readout = backbone.readout(ReadoutSettings(depths=(0.5, 1.0)))
    plain, read = backbone(shown), backbone(shown, readout)
    assert torch.equal(plain.features, read.features)
    assert torch.equal(plain.projected, read.projected)
    assert plain.readout is None
    assert read.readout is not None
    assert read.readout.shape == (3, readout.width)
    widths = list(readout.widths)
    for block, part in zip(readout.blocks, read.readout.split(widths, dim=1), strict=True):
        single = backbone.readout(ReadoutSettings(depths=(block / max(readout.blocks),)))
        assert single.blocks == (block,)
        alone = backbone(shown, single).readout
        assert alone is not None
        assert torch.equal(alone, part)
    for start in range(readout.blocks[0] + 1):
        again = backbone.tail_blocks(backbone.head_blocks(shown, start), start, readout=readout)
        assert again.readout is not None
        assert torch.equal(again.readout, read.readout)
    with pytest.raises(AssertionError, match="was left out"):
        backbone.tail_blocks(backbone.head_blocks(shown, readout.blocks[0] + 1), readout.blocks[0] + 1, readout=readout)


@torch.no_grad()
def test_patches_keep_their_places(tiny_backbones: dict[str, BackboneSettings]) -> None:
    backbone = load_backbone(tiny_backbones["vit"])
    visual = backbone.visual
    side: int = visual.grid_size[0]  # type: ignore[index, assignment]
    tokens = torch.arange(1 + side * side, dtype=torch.float32).reshape(1, -1, 1)
    found = backbone._tower.feature_map(visual, tokens)
    assert found.token is not None
    assert found.token.item() == 0
    assert found.values[0, 0].flatten().tolist() == list(range(1, 1 + side * side))
    assert found.values[0, 0, 1, 0].item() == 1 + side


def test_a_high_power_of_small_values_has_a_gradient() -> None:
    shown = torch.full((1, 2, 3, 3), 1e-5, requires_grad=True)
    pooled(FeatureMap(shown), ReadoutSettings(pool=Pooling.GEM, power=20))["gem"].sum().backward()
    assert shown.grad is not None
    assert shown.grad.sum().item() == pytest.approx(2, rel=1e-4)
