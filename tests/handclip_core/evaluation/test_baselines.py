from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import (
    BASELINES,
    CELLS_PX,
    HOG_SHRINKAGE,
    PIXEL_SHRINKAGE,
    Descriptors,
    gradient_descriptors,
    hog_descriptors,
    pixel_descriptors,
)
from handclip_core.evaluation.similarity import cosine


def random_images(num: int, side: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (num, 6, 6, 3)).astype(np.uint8)
    return coarse.repeat(side // 6, axis=1).repeat(side // 6, axis=2)


@pytest.mark.parametrize("name", list(BASELINES))
def test_near_copies_are_nearest(name: str) -> None:
    images = random_images(5)
    noise = np.random.default_rng(1).integers(-9, 9, images.shape)
    copies = np.clip(images.astype(np.int64) + noise, 0, 255).astype(np.uint8)
    similarity = cosine(BASELINES[name].describe(images), BASELINES[name].describe(copies))
    assert similarity.argmax(dim=1).tolist() == list(range(5))


def test_pixels_are_the_correlation_of_small_images() -> None:
    images = random_images(2, side=192)
    descriptors = pixel_descriptors(images)
    assert descriptors.shape == (2, 3072)
    small = images.reshape(2, 32, 6, 32, 6, 3).mean(axis=(2, 4)).reshape(2, -1)
    brighter = pixel_descriptors((images // 2 + 100).astype(np.uint8))
    assert float(cosine(descriptors, brighter)[0, 0]) > 0.999
    assert float(cosine(descriptors, descriptors)[0, 1]) == pytest.approx(np.corrcoef(small)[0, 1], abs=0.05)


def test_gradients_ignore_colour_and_light() -> None:
    images = random_images(3)
    descriptors = hog_descriptors(images)
    assert descriptors.shape == (3, 1764)
    dimmed = hog_descriptors((images // 2).astype(np.uint8))
    assert float(cosine(descriptors, dimmed).diagonal().min()) > 0.98


@pytest.mark.parametrize("name", list(BASELINES))
def test_images_of_one_colour_have_a_direction(name: str) -> None:
    flat = np.full((2, 40, 50, 3), 255, dtype=np.uint8)
    assert cosine(BASELINES[name].describe(flat), BASELINES[name].describe(flat)).min() > 0.99


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3)),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("name", list(BASELINES))
def test_other_images_are_refused(name: str, images: Any) -> None:
    with pytest.raises(InputError, match="images"):
        BASELINES[name].describe(images)


def test_pixels_with_their_mean_are_the_small_image_itself() -> None:
    images = np.random.default_rng(5).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    small = images.transpose(0, 3, 1, 2).reshape(2, -1) / 255
    assert pixel_descriptors(images, keep_mean=True) == pytest.approx(small, abs=1e-6)
    assert pixel_descriptors(images) == pytest.approx(small - small.mean(axis=1, keepdims=True), abs=1e-6)


def slow_gradient_histograms(image: NDArray[np.uint8], cell_px: int) -> NDArray[np.float64]:
    """Pixel by pixel: central differences, an orientation of 0 to 180 degrees in nine bins, its magnitude counted."""
    grey = (image / 255) @ np.array([0.299, 0.587, 0.114])
    side, num = len(grey), len(grey) // cell_px
    counts = np.zeros((num, num, 9))
    for y in range(side):
        for x in range(side):
            down = grey[y + 1, x] - grey[y - 1, x] if 0 < y < side - 1 else 0.0
            right = grey[y, x + 1] - grey[y, x - 1] if 0 < x < side - 1 else 0.0
            angle = np.rad2deg(np.arctan2(down, right)) % 180
            counts[y // cell_px, x // cell_px, int(angle // 20) % 9] += np.hypot(down, right)
    return np.asarray(counts / np.linalg.norm(counts)).ravel()


@pytest.mark.parametrize("cell_px", CELLS_PX)
def test_gradient_histograms_are_those_of_a_loop_over_pixels(cell_px: int) -> None:
    (image,) = np.random.default_rng(3).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)
    (found,) = gradient_descriptors(image[None], cell_px=cell_px)
    slow = slow_gradient_histograms(image, cell_px)
    assert found.shape == (9 * (128 // cell_px) ** 2,)
    # Angles on the border of two bins may round to either.
    assert float(found @ slow) > 0.9999
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def crowd() -> tuple[Descriptors, NDArray[np.int64]]:
    """Forty vectors [n, 6] of five classes that differ little, with loud directions that say nothing."""
    rng = np.random.default_rng(4)
    labels = np.arange(40) % 5
    vectors = 3 + rng.normal(size=(5, 6))[labels] + rng.normal(size=(40, 6)) * (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    return vectors.astype(np.float32), labels


def inverse_root_by_newton(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric Z with Z matrix Z = I, by coupled Newton iterations (Denman 1976) instead of eigenvectors."""
    root, inverse = matrix, np.eye(len(matrix))
    for _ in range(60):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    return inverse


@pytest.mark.parametrize("name", ["whitened_pixels", "wccn_hog"])
def test_trained_baselines_whiten_what_varies_over_all_images_or_within_classes(name: str) -> None:
    vectors, labels = crowd()
    units = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    covariance = np.zeros((6, 6))
    for unit, label in zip(units, labels, strict=True):
        centre = units.mean(axis=0) if name == "whitened_pixels" else units[labels == label].mean(axis=0)
        covariance += np.outer(unit - centre, unit - centre)
    covariance /= 40 - (1 if name == "whitened_pixels" else 5)
    share = PIXEL_SHRINKAGE if name == "whitened_pixels" else HOG_SHRINKAGE
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / 6 * np.eye(6)
    expected = (units - units.mean(axis=0)) @ inverse_root_by_newton(shrunk)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = BASELINES[name].mapped(vectors, vectors, labels, labels)
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(found, BASELINES[name].mapped(vectors, vectors, labels, labels))


def test_the_table_says_which_baselines_are_trained() -> None:
    assert [name for name, baseline in BASELINES.items() if baseline.trained] == ["whitened_pixels", "wccn_hog"]
