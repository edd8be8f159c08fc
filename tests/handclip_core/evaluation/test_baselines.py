from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.baselines import BASELINES, hog_descriptors, pixel_descriptors
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
    similarity = cosine(BASELINES[name](images), BASELINES[name](copies))
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
    assert cosine(BASELINES[name](flat), BASELINES[name](flat)).min() > 0.99


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
        BASELINES[name](images)
