"""Baselines: descriptors of pixels and gradients that a model has to beat, some of them fitted to training images.

Hand data hold near-duplicates, taken seconds apart, which even pixels match; a score says little without this baseline.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from torch import Tensor
from torch.nn import functional

from handclip_core.data.augment import GREY
from handclip_core.errors import InputError
from handclip_core.models.closed_form import Labels
from handclip_core.models.metric import MetricKind, MetricSettings

Descriptors = NDArray[np.float32]
PIXEL_SIDE_PX = 32
GRADIENT_SIDE_PX = 128
HOG_CELL_PX = 16
CELLS_PX = (8, 16, 32)
"""Cells of the plain gradient histograms."""
ORIENTATIONS = 9
PIXEL_SHRINKAGE, HOG_SHRINKAGE = 0.6, 0.3
"""Of the covariances of those that are fitted: the best on validation identities of drawn hands."""


def pixel_descriptors(images: NDArray[Any], *, keep_mean: bool = False) -> Descriptors:
    """Images uint8 [N, H, W, 3] as their 32 x 32 colour pixels, [N, 3072], less the image's mean unless ``keep_mean``.

    Without the mean the cosine of two is the correlation of the images. Raises InputError for another shape or type.
    """
    flat = _resized(_planes(images, "pixel descriptors"), PIXEL_SIDE_PX).flatten(1)
    return _never_zero((flat if keep_mean else flat - flat.mean(dim=1, keepdim=True)).numpy())


def hog_descriptors(images: NDArray[Any]) -> Descriptors:
    """Histograms of oriented gradients of images uint8 [N, H, W, 3], as [N, 1764].

    Dalal 2005, doi 10.1109/CVPR.2005.177: grey, 128 px, 9 orientations, cells of 16 px, blocks of 2 x 2 cells. Raises
    InputError for another shape or type.
    """
    return _histograms(images, cell_px=HOG_CELL_PX, cells_a_block=2, norm="L2-Hys")


def gradient_descriptors(images: NDArray[Any], *, cell_px: int) -> Descriptors:
    """Plain histograms of oriented gradients of images uint8 [N, H, W, 3], as [N, 9 (128 / ``cell_px``)^2].

    Grey, 128 px; each cell of the image counts its gradients by orientation, weighted by magnitude, and all of an image
    is scaled to length one together, so that strong edges outweigh weak ones. Raises InputError for another shape or
    type.
    """
    return _histograms(images, cell_px=cell_px, cells_a_block=GRADIENT_SIDE_PX // cell_px, norm="L2")


@dataclass(frozen=True)
class Baseline:
    """A descriptor of images uint8 [N, H, W, 3], and the closed form that is fitted to those of training images."""

    describe: Callable[[NDArray[Any]], Descriptors]
    metric: MetricSettings = field(default_factory=MetricSettings)

    @property
    def trained(self) -> bool:
        """Whether it needs training images."""
        return self.metric.kind is not MetricKind.NONE

    def mapped(
        self, descriptors: Descriptors, training: Descriptors, labels: Labels, identities: Labels
    ) -> Descriptors:
        """``descriptors`` [N, D] after the closed form of the ``training`` ones [n, D], their classes and identities.

        Raises InputError if the training images do not support it.
        """
        metric = self.metric.build((training.shape[1],), num_images=len(training), num_classes=len(np.unique(labels)))
        metric.fit(training, labels, identities)
        found: Descriptors = metric(torch.from_numpy(descriptors)).numpy()
        return found


BASELINES: dict[str, Baseline] = {
    "pixels": Baseline(pixel_descriptors),
    "pixels_with_mean": Baseline(partial(pixel_descriptors, keep_mean=True)),
    "hog": Baseline(hog_descriptors),
    **{f"gradients_{cell}": Baseline(partial(gradient_descriptors, cell_px=cell)) for cell in CELLS_PX},
    "whitened_pixels": Baseline(pixel_descriptors, MetricSettings(kind=MetricKind.PCA, shrinkage=PIXEL_SHRINKAGE)),
    "wccn_hog": Baseline(hog_descriptors, MetricSettings(kind=MetricKind.WCCN, shrinkage=HOG_SHRINKAGE)),
}
"""The baselines by the names under which tables show them."""


def _histograms(images: NDArray[Any], *, cell_px: int, cells_a_block: int, norm: str) -> Descriptors:
    grey = torch.einsum("ncxy,c->nxy", _resized(_planes(images, "gradients"), GRADIENT_SIDE_PX), torch.tensor(GREY))
    cells, blocks = (cell_px, cell_px), (cells_a_block, cells_a_block)
    described = [
        hog(one, orientations=ORIENTATIONS, pixels_per_cell=cells, cells_per_block=blocks, block_norm=norm)
        for one in grey.numpy()
    ]
    return _never_zero(np.asarray(described, dtype=np.float32))


def _planes(images: NDArray[Any], what: str) -> Tensor:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InputError(f"images are {images.dtype} {list(images.shape)}; {what} need uint8 [N, H, W, 3]")
    if not images.size:
        raise InputError(f"there are no images to make {what} of")
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def _resized(planes: Tensor, side: int) -> Tensor:
    return functional.interpolate(planes, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def _never_zero(descriptors: Descriptors) -> Descriptors:
    """An image of one colour has no gradient and no contrast: give it one and the same direction, not none."""
    empty = np.abs(descriptors).max(axis=1, initial=0) < 1e-6
    descriptors[empty] = 1
    return descriptors
