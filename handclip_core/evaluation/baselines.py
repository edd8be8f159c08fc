"""Baselines that learn nothing: descriptors that a model has to beat.

Hand data hold near-duplicates, taken seconds apart, which even pixels match; a score says little without this baseline.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from torch import Tensor
from torch.nn import functional

from handclip_core.console import track
from handclip_core.data.augment import GREY
from handclip_core.errors import InputError

Descriptors = NDArray[np.float32]
PIXEL_SIDE_PX = 32
HOG_SIDE_PX = 128
HOG_CELL_PX = 16
HOG_ORIENTATIONS = 9
CHUNK = 256


def pixel_descriptors(images: NDArray[Any]) -> Descriptors:
    """Images uint8 [N, H, W, 3] as their 32 x 32 colour pixels less the image's mean, [N, 3072].

    The cosine of two is then the correlation of the images. Raises InputError for another shape or type.
    """
    return _described(images, _pixels, "pixel descriptors")


def hog_descriptors(images: NDArray[Any]) -> Descriptors:
    """Histograms of oriented gradients of images uint8 [N, H, W, 3], as [N, 1764].

    Dalal 2005, doi 10.1109/CVPR.2005.177: grey, 128 px, 9 orientations, cells of 16 px, blocks of 2 x 2 cells. Raises
    InputError for another shape or type.
    """
    return _described(images, _hogs, "HOG descriptors")


BASELINES: dict[str, Callable[[NDArray[Any]], Descriptors]] = {"pixels": pixel_descriptors, "hog": hog_descriptors}
"""The baselines by the names under which tables show them."""


def _described(images: NDArray[Any], describe: Callable[[Tensor], Descriptors], what: str) -> Descriptors:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InputError(f"images are {images.dtype} {list(images.shape)}; {what} need uint8 [N, H, W, 3]")
    if not images.size:
        raise InputError(f"there are no images to make {what} of")
    starts = range(0, len(images), CHUNK)
    shown: Iterable[int] = track(starts, description=what, total=len(starts))
    return np.concatenate([describe(_planes(images[start : start + CHUNK])) for start in shown])


def _planes(images: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def _resized(planes: Tensor, side: int) -> Tensor:
    return functional.interpolate(planes, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _pixels(planes: Tensor) -> Descriptors:
    flat = _resized(planes, PIXEL_SIDE_PX).flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    return _never_zero(centred.numpy())


def _hogs(planes: Tensor) -> Descriptors:
    grey = torch.einsum("ncxy,c->nxy", _resized(planes, HOG_SIDE_PX), torch.tensor(GREY))
    cells = (HOG_CELL_PX, HOG_CELL_PX)
    described = [
        hog(one, orientations=HOG_ORIENTATIONS, pixels_per_cell=cells, cells_per_block=(2, 2)) for one in grey.numpy()
    ]
    return _never_zero(np.asarray(described, dtype=np.float32))


def _never_zero(descriptors: Descriptors) -> Descriptors:
    """An image of one colour has no gradient and no contrast: give it one and the same direction, not none."""
    empty = np.abs(descriptors).max(axis=1, initial=0) < 1e-6
    descriptors[empty] = 1
    return descriptors
