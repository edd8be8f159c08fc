"""Strong random changes of drawn images, so that what a backbone learns of them carries over to photographs.

A drawn hand differs from a photographed one in light, colour, sharpness, noise and surroundings; a backbone that saw
all of these vary at random has to look at what remains: the shape of the hand, its creases, nails and marks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from handclip_core.data.augment import GREY

_KERNEL_PX = 7
_AT_A_TIME = 16


def vary(images: Tensor, *, size_px: int, strength: float = 1.0, generator: torch.Generator) -> Tensor:
    """A random view of each of ``images`` (uint8 [B, 3, H, W]): float32 [B, 3, size_px, size_px] in [0, 1].

    ``strength`` scales the range of every change: 0 leaves the images as they are but for their size.
    """
    # A few images at a time stay in the processor's cache, which halves the time.
    parts = (_Views(part.float() / 255, strength, generator) for part in images.split(_AT_A_TIME))
    return torch.cat([part.changed(size_px) for part in parts])


class _Views:
    """The changes of a few images [B, 3, H, W], one after the other."""

    def __init__(self, pixels: Tensor, strength: float, generator: torch.Generator) -> None:
        self.pixels, self.strength, self.generator = pixels, strength, generator

    def changed(self, size_px: int) -> Tensor:
        """All changes: place, light, colour, sharpness, a cover, noise."""
        self._place(size_px)
        self._light()
        self._colour()
        self._sharpness()
        self._cover()
        sigma = self._uniform(-0.01, 0.03).clamp(min=0) * self.strength
        return (self.pixels + sigma * torch.randn(self.pixels.shape, generator=self.generator)).clamp(0, 1)

    def _uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """One number an image (and channel) in [low, high), as [B, channels, 1, 1]."""
        return low + (high - low) * torch.rand(len(self.pixels), channels, 1, 1, generator=self.generator)

    def _within(self, low: float, high: float, channels: int = 1) -> Tensor:
        """The same for a range around 0 that the strength scales."""
        return self.strength * self._uniform(low, high, channels)

    def _chance(self, probability: float) -> Tensor:
        """True for some images, the more the greater the strength: [B, 1, 1, 1]."""
        return self._uniform(0, 1) < probability * self.strength

    def _place(self, size_px: int) -> None:
        """Rotate, zoom, stretch, shear, shift and tilt in depth; beyond the border the border's colour goes on."""
        angle, shear = self._within(-0.35, 0.35).flatten(), self._within(-0.1, 0.1).flatten()
        zoom, stretch = self._within(-0.25, 0.2).exp().flatten(), self._within(-0.1, 0.1).exp().flatten()
        right, down = (self._within(-0.15, 0.15).flatten() for _ in range(2))
        cos, sin = torch.cos(angle), torch.sin(angle)
        across, along = zoom * stretch, zoom / stretch
        first = torch.stack([cos * across, (shear * cos - sin) * along, right], dim=1)
        second = torch.stack([sin * across, (shear * sin + cos) * along, down], dim=1)
        shape = [len(self.pixels), 3, size_px, size_px]
        grid = F.affine_grid(torch.stack([first, second], dim=1), shape, align_corners=False)
        tilt = [self._within(-0.1, 0.1).view(-1, 1, 1) for _ in range(2)]
        depth = 1 + tilt[0] * grid[..., 0] + tilt[1] * grid[..., 1]
        grid = grid / depth.unsqueeze(-1)
        self.pixels = F.grid_sample(self.pixels, grid, padding_mode="border", align_corners=False)

    def _light(self) -> None:
        """Multiply by a smooth field, as uneven lighting and soft shadows do."""
        field = self._within(0, 0.2) * torch.randn(len(self.pixels), 1, 4, 4, generator=self.generator)
        size = self.pixels.shape[-2:]
        self.pixels = self.pixels * torch.exp(F.interpolate(field, size=size, mode="bicubic", align_corners=True))

    def _colour(self) -> None:
        """Change exposure, white balance, gamma, contrast and saturation; now and then take the colour away."""
        pixels = self.pixels * torch.exp(self._within(-0.25, 0.15))
        pixels = pixels * torch.exp(self._within(-0.07, 0.07, channels=3))
        pixels = pixels.clamp(1e-3, 1) ** torch.exp(self._within(-0.25, 0.25))
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * torch.exp(self._within(-0.3, 0.2))
        grey = (pixels * pixels.new_tensor(GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        saturation = torch.exp(self._within(-0.6, 0.35)) * ~self._chance(0.1)
        self.pixels = (grey + (pixels - grey) * saturation).clamp(0, 1)

    def _sharpness(self) -> None:
        """Blur half of the images, along any direction as motion does, and sharpen the others a little."""
        blurred = self._within(0.3, 1.0)
        amount = torch.where(self._uniform(0, 1) < 0.5, blurred, self._within(-0.6, 0.0))
        self.pixels = (self.pixels + amount * (self._smooth() - self.pixels)).clamp(0, 1)

    def _smooth(self) -> Tensor:
        """Each image under its own Gaussian of random widths and direction."""
        side = torch.arange(_KERNEL_PX) - _KERNEL_PX // 2
        y, x = torch.meshgrid(side, side, indexing="ij")
        angle = self._uniform(0, math.pi)
        along, across = torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x
        long, wide = self._uniform(0.5, 2.0), self._uniform(0.3, 1.0)
        kernel = torch.exp(-0.5 * ((along / long) ** 2 + (across / wide) ** 2))
        kernel = (kernel / kernel.sum(dim=(2, 3), keepdim=True)).repeat_interleave(3, dim=0)
        batch, channels, height, width = self.pixels.shape
        padded = F.pad(self.pixels, [_KERNEL_PX // 2] * 4, mode="replicate").flatten(0, 1).unsqueeze(0)
        smooth = F.conv2d(padded, kernel.reshape(-1, 1, _KERNEL_PX, _KERNEL_PX), groups=batch * channels)
        return smooth.view(batch, channels, height, width)

    def _cover(self) -> None:
        """Cover a rectangle of some images with a colour of its own (Zhong 2017, arXiv 1708.04896)."""
        height, width = self.pixels.shape[-2:]
        area, stretch = self._uniform(0.01, 0.12), torch.exp(self._uniform(-1.0, 1.0))
        half_y, half_x = (area * stretch).sqrt() * height / 2, (area / stretch).sqrt() * width / 2
        centre_y, centre_x = self._uniform(0, height), self._uniform(0, width)
        rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
        inside = ((rows - centre_y).abs() < half_y) & ((columns - centre_x).abs() < half_x)
        colour = self._uniform(0, 1, channels=3)
        self.pixels = torch.where(inside & self._chance(0.25), colour, self.pixels)
