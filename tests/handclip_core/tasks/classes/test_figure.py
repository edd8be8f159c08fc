import io

import numpy as np
import pytest
from PIL import Image

from handclip_core.tasks.classes.figure import FULL, MOST_PX, confusion_image


def drawn(counts: np.ndarray, names: list[str]) -> Image.Image:
    return Image.open(io.BytesIO(confusion_image(counts, names))).convert("RGB")


def test_cells_are_as_dark_as_their_share_of_the_images_of_a_class() -> None:
    names = ["palm", "back of a hand", "fist, which has a name of more than 24 letters"]
    image = drawn(np.array([[3, 1, 0], [0, 5, 0], [0, 0, 0]]), names)
    side = 36
    margin = image.width - 6 - 3 * side
    pixels = np.asarray(image)
    for (row, column), share in {(0, 0): 0.75, (0, 1): 0.25, (0, 2): 0, (1, 1): 1, (2, 2): 0}.items():
        corner = pixels[margin + row * side + 3, margin + column * side + 3]
        np.testing.assert_allclose(corner.astype(float), 255 + share * (FULL - 255), atol=1)
    left = pixels[margin : margin + 3 * side, :margin].min(axis=(1, 2)).reshape(3, side)
    assert (left.min(axis=1) < 128).all(), "each row has a name"
    above = pixels[:margin, margin : margin + 3 * side].min(axis=(0, 2)).reshape(3, side)
    assert (above.min(axis=1) < 128).all(), "and so has each column"


@pytest.mark.parametrize("num", [1, 100, 2000])
def test_a_matrix_of_any_size_can_be_drawn(num: int) -> None:
    image = drawn(np.eye(num, dtype=np.int64), [f"class {at}" for at in range(num)])
    assert image.width == image.height
    assert num <= image.width <= max(MOST_PX, num) + 250
