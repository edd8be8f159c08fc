"""Strong random changes of drawn pictures, so that what a backbone learns of them carries over to photographs.

A drawn hand differs from a photographed one in light, colour, sharpness, noise and surroundings; a backbone that saw
all of these vary at random has to look at what remains: the shape of the hand, its creases, nails and marks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601."""

_KERNEL_PX = 7
_AT_A_TIME = 16


def vary(pictures: Tensor, *, size_px: int, generator: torch.Generator) -> Tensor:
    """A random view of each of ``pictures`` (uint8 [B, 3, H, W]): float32 [B, 3, size_px, size_px] in [0, 1]."""
    # A few pictures at a time stay in the processor's cache, which halves the time.
    return torch.cat([_vary(part.float() / 255, size_px, generator) for part in pictures.split(_AT_A_TIME)])


def _vary(pixels: Tensor, size_px: int, generator: torch.Generator) -> Tensor:
    pixels = _place(pixels, size_px, generator)
    pixels = _light(pixels, generator)
    pixels = _colour(pixels, generator)
    pixels = _sharpness(pixels, generator)
    pixels = _cover(pixels, generator)
    sigma = _uniform(pixels, generator, -0.01, 0.03).clamp(min=0)
    return (pixels + sigma * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def _uniform(pixels: Tensor, generator: torch.Generator, low: float, high: float, channels: int = 1) -> Tensor:
    """One number a picture (and channel) in [low, high), as [B, channels, 1, 1]."""
    return low + (high - low) * torch.rand(len(pixels), channels, 1, 1, generator=generator)


def _place(pixels: Tensor, size_px: int, generator: torch.Generator) -> Tensor:
    """Rotate, zoom, stretch, shear, shift and tilt in depth; beyond the border the border's colour goes on."""

    def draw(spread: float) -> Tensor:
        return _uniform(pixels, generator, -spread, spread).flatten()

    angle, shear = draw(math.radians(25)), draw(0.1)
    zoom, stretch = torch.exp(draw(0.25)), torch.exp(draw(0.12))
    across, down = zoom * stretch, zoom / stretch
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack([cos * across, (shear * cos - sin) * down, draw(0.15), sin * across, (shear * sin + cos) * down,
                        draw(0.15)], dim=1)  # fmt: skip
    grid = F.affine_grid(rows.view(-1, 2, 3), [len(pixels), 3, size_px, size_px], align_corners=False)
    depth = 1 + draw(0.12).view(-1, 1, 1) * grid[..., 0] + draw(0.12).view(-1, 1, 1) * grid[..., 1]
    return F.grid_sample(pixels, grid / depth.unsqueeze(-1), padding_mode="border", align_corners=False)


def _light(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply by a smooth field, as uneven lighting and soft shadows do."""
    strength = _uniform(pixels, generator, 0.0, 0.25)
    field = strength * torch.randn(len(pixels), 1, 4, 4, generator=generator)
    return pixels * torch.exp(F.interpolate(field, size=pixels.shape[-2:], mode="bicubic", align_corners=True))


def _colour(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Change exposure, white balance, gamma, contrast and saturation; now and then take the colour away."""
    pixels = pixels * torch.exp(_uniform(pixels, generator, -0.25, 0.15))
    pixels = pixels * torch.exp(_uniform(pixels, generator, -0.07, 0.07, channels=3))
    pixels = pixels.clamp(1e-3, 1) ** torch.exp(_uniform(pixels, generator, -0.25, 0.25))
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * torch.exp(_uniform(pixels, generator, -0.3, 0.2))
    grey = (pixels * pixels.new_tensor(GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    saturation = _uniform(pixels, generator, 0.5, 1.4)
    saturation = saturation * (_uniform(pixels, generator, 0, 1) > 0.1)
    return (grey + (pixels - grey) * saturation).clamp(0, 1)


def _sharpness(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blur half of the pictures, along any direction as motion does, and sharpen the others a little."""
    blurred = _smooth(pixels, generator)
    amount = torch.where(
        _uniform(pixels, generator, 0, 1) < 0.5,
        _uniform(pixels, generator, 0.3, 1.0),
        _uniform(pixels, generator, -0.6, 0.0),
    )
    return (pixels + amount * (blurred - pixels)).clamp(0, 1)


def _smooth(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture under its own Gaussian of random widths and direction."""
    side = torch.arange(_KERNEL_PX) - _KERNEL_PX // 2
    y, x = torch.meshgrid(side, side, indexing="ij")
    angle = _uniform(pixels, generator, 0, math.pi)
    along, across = torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x
    long, wide = _uniform(pixels, generator, 0.5, 2.2), _uniform(pixels, generator, 0.3, 1.2)
    kernel = torch.exp(-0.5 * ((along / long) ** 2 + (across / wide) ** 2))
    kernel = (kernel / kernel.sum(dim=(2, 3), keepdim=True)).expand(-1, 3, -1, -1)
    batch, channels, height, width = pixels.shape
    padded = F.pad(pixels, [_KERNEL_PX // 2] * 4, mode="replicate").flatten(0, 1).unsqueeze(0)
    smooth = F.conv2d(padded, kernel.reshape(batch * channels, 1, _KERNEL_PX, _KERNEL_PX), groups=batch * channels)
    return smooth.view(batch, channels, height, width)


def _cover(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Cover a rectangle of up to a sixth of some pictures with a colour of its own (Zhong 2017, arXiv 1708.04896)."""
    height, width = pixels.shape[-2:]
    area, stretch = _uniform(pixels, generator, 0.01, 0.16), torch.exp(_uniform(pixels, generator, -1.0, 1.0))
    half_y, half_x = (area * stretch).sqrt() * height / 2, (area / stretch).sqrt() * width / 2
    centre_y, centre_x = (_uniform(pixels, generator, 0, side) for side in (height, width))
    inside = ((torch.arange(height).view(1, 1, -1, 1) - centre_y).abs() < half_y) & (
        (torch.arange(width).view(1, 1, 1, -1) - centre_x).abs() < half_x
    )
    chosen = _uniform(pixels, generator, 0, 1) < 0.25
    return torch.where(inside & chosen, _uniform(pixels, generator, 0, 1, channels=3), pixels)
