import torch
from torch import Tensor

from handclip_core.pretraining.views import vary


def hands(count: int = 20) -> Tensor:
    """A dark bar on light ground, in place of a hand."""
    images = torch.full((count, 3, 40, 40), 220, dtype=torch.uint8)
    images[:, :, 8:32, 16:24] = 90
    return images


def test_views_are_images_of_the_size_asked_for_and_repeat_by_seed() -> None:
    first, again = (vary(hands(), size_px=24, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (20, 3, 24, 24)
    assert first.dtype == torch.float32
    assert 0 <= first.min().item() < first.max().item() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, vary(hands(), size_px=24, generator=torch.Generator().manual_seed(4)))


def test_every_image_varies_in_its_own_way_and_keeps_what_it_shows() -> None:
    views = vary(hands(60), size_px=40, generator=torch.Generator().manual_seed(0))
    assert len({round(value, 4) for value in views.mean(dim=(1, 2, 3)).tolist()}) == 60
    middle, corner = views[:, :, 18:22, 18:22].mean(dim=(1, 2, 3)), views[:, :, :4, :4].mean(dim=(1, 2, 3))
    assert (middle < corner).float().mean().item() > 0.8


def test_images_are_left_as_they_are() -> None:
    images = hands(3)
    vary(images, size_px=24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, hands(3))


def test_without_strength_nothing_changes() -> None:
    views = vary(hands(4), size_px=40, strength=0.0, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, hands(4).float() / 255, atol=2e-3, rtol=0)


def test_more_strength_changes_more() -> None:
    plain = hands(40).float() / 255
    changes = [
        (vary(hands(40), size_px=40, strength=strength, generator=torch.Generator().manual_seed(0)) - plain)
        .abs()
        .mean()
        for strength in (0.1, 0.5, 1.0)
    ]
    assert changes[0].item() < changes[1].item() < changes[2].item()
