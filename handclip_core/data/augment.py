"""Augmentation of a batch of images, on whatever device the batch is."""

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from handclip_core.config import Config

GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601."""


class AugmentSettings(Config):
    """Strengths of the random changes; 0 turns a change off, and all are off by default."""

    rotation_deg: float = Field(0.0, ge=0, le=180)
    """Largest rotation either way."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Largest relative zoom either way."""
    shift: float = Field(0.0, ge=0, le=0.5)
    """Largest shift either way, as a share of the side."""
    brightness: float = Field(0.0, ge=0, le=1)
    """Largest relative change of brightness."""
    contrast: float = Field(0.0, ge=0, le=1)
    """Largest relative change of contrast."""
    colour: float = Field(0.0, ge=0, le=1)
    """Largest relative change of saturation."""
    blur: float = Field(0.0, ge=0, le=1)
    """Chance that an image is blurred (3 x 3 Gaussian)."""
    erase: float = Field(0.0, ge=0, le=1)
    """Chance that a rectangle of up to a fifth of the image is blanked (Zhong 2017, arXiv 1708.04896)."""
    flip: bool = False
    """Mirror half of the images. A mirrored right hand looks like a left one, which is a distractor in the gallery."""

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self != AugmentSettings()


def augment(pixels: Tensor, settings: AugmentSettings, *, generator: torch.Generator) -> Tensor:
    """Randomly changed images [B, 3, H, W] in [0, 1]; ``generator`` is a CPU generator, whatever the device."""
    if not settings.active:
        return pixels
    draw = _Draw(len(pixels), generator, pixels.device)
    if settings.rotation_deg or settings.scale or settings.shift or settings.flip:
        pixels = _warp(pixels, settings, draw)
    pixels = _tone(pixels, settings, draw)
    if settings.blur:
        pixels = torch.where(draw.chance(settings.blur), _blur(pixels), pixels)
    if settings.erase:
        pixels = _erase(pixels, draw, chance=settings.erase)
    return pixels


class _Draw:
    """Random numbers, one an image, drawn on the CPU so that every device sees the same ones."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device) -> None:
        self._batch, self._generator, self._device = batch, generator, device

    def uniform(self, low: float, high: float) -> Tensor:
        """[B] numbers in [low, high)."""
        return (low + (high - low) * torch.rand(self._batch, generator=self._generator)).to(self._device)

    def chance(self, probability: float) -> Tensor:
        """[B, 1, 1, 1] booleans."""
        return (self.uniform(0, 1) < probability).view(-1, 1, 1, 1)


def _warp(pixels: Tensor, settings: AugmentSettings, draw: _Draw) -> Tensor:
    angle = draw.uniform(-1, 1) * math.radians(settings.rotation_deg)
    zoom = 1 + draw.uniform(-1, 1) * settings.scale
    mirror = 1 - 2 * (draw.uniform(0, 1) < 0.5 * settings.flip).float()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift_x, shift_y = (2 * settings.shift * draw.uniform(-1, 1) for _ in range(2))
    rows = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3).to(pixels.dtype), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _tone(pixels: Tensor, settings: AugmentSettings, draw: _Draw) -> Tensor:
    def factor(strength: float) -> Tensor:
        return (1 + strength * draw.uniform(-1, 1)).view(-1, 1, 1, 1)

    if settings.brightness:
        pixels = pixels * factor(settings.brightness)
    if settings.contrast:
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * factor(settings.contrast)
    if settings.colour:
        grey = (pixels * pixels.new_tensor(GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        pixels = grey + (pixels - grey) * factor(settings.colour)
    return pixels.clamp(0, 1)


def _blur(pixels: Tensor) -> Tensor:
    line = pixels.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line[None, :]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _erase(pixels: Tensor, draw: _Draw, *, chance: float) -> Tensor:
    height, width = pixels.shape[-2:]
    area, stretch = draw.uniform(0.02, 0.2), torch.exp(draw.uniform(-1.0, 1.0))
    half_y, half_x = (area * stretch).sqrt() * height / 2, (area / stretch).sqrt() * width / 2
    centre_y, centre_x = draw.uniform(0, 1) * height, draw.uniform(0, 1) * width
    y = torch.arange(height, device=pixels.device).view(1, -1, 1)
    x = torch.arange(width, device=pixels.device).view(1, 1, -1)
    inside_y = (y - centre_y.view(-1, 1, 1)).abs() < half_y.view(-1, 1, 1)
    inside_x = (x - centre_x.view(-1, 1, 1)).abs() < half_x.view(-1, 1, 1)
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    return torch.where((inside_y & inside_x).unsqueeze(1) & draw.chance(chance), mean, pixels)
