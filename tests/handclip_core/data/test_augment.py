import pytest
import torch
from torch import Tensor

from handclip_core.data.augment import AugmentSettings, augment

STRENGTHS = {
    "rotation_deg": 20.0, "scale": 0.2, "shift": 0.1, "brightness": 0.4, "contrast": 0.4, "colour": 0.4,
    "blur": 1.0, "erase": 1.0, "flip": True,
}  # fmt: skip


def images() -> Tensor:
    return torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def changed(settings: AugmentSettings, seed: int = 0) -> Tensor:
    return augment(images(), settings, generator=torch.Generator().manual_seed(seed))


def test_every_change_is_off_by_default() -> None:
    assert torch.equal(changed(AugmentSettings()), images())
    assert set(STRENGTHS) == set(AugmentSettings.model_fields)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_change_changes_images_and_keeps_their_range(name: str) -> None:
    result = changed(AugmentSettings.model_validate({name: STRENGTHS[name]}))
    assert result.shape == images().shape
    assert not torch.equal(result, images())
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_generator_fixes_the_change(name: str) -> None:
    settings = AugmentSettings.model_validate({name: STRENGTHS[name]})
    assert torch.equal(changed(settings, seed=1), changed(settings, seed=1))


def test_flip_mirrors_some_images_exactly_and_leaves_the_others() -> None:
    before, after = images(), changed(AugmentSettings(flip=True))
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(before, after, strict=True)]
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(before, after, strict=True)]
    assert all(x != y for x, y in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_brightness_scales_within_its_strength() -> None:
    before = torch.full((50, 3, 4, 4), 0.5)
    after = augment(before, AugmentSettings(brightness=0.2), generator=torch.Generator().manual_seed(0))
    ratio = (after / before).flatten(1)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio)), "one factor an image"
    assert 0.8 <= ratio.min() < 0.85 < 1.15 < ratio.max() <= 1.2


def test_no_colour_is_grey() -> None:
    grey = images().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    after = augment(grey, AugmentSettings(colour=1.0), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(after, grey, atol=1e-6), "grey images have no colour to change"
