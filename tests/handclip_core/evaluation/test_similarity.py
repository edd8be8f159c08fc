import numpy as np
import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import cosine, cosine_blocks, normalised


def test_cosines_of_tiny_and_huge_rows() -> None:
    rows = np.array([[3e-200, 4e-200], [3e200, 4e200], [-4.0, 3.0]])
    np.testing.assert_allclose(cosine(rows, rows).numpy(), [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-7)
    half = torch.tensor([[6e-8, 0.0], [6e4, 6e4]], dtype=torch.float16)
    assert normalised(half).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_blocks_make_up_the_whole() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.standard_normal((7, 4)), rng.standard_normal((23, 4)).astype(np.float32)
    whole = cosine(query, gallery)
    blocks = list(cosine_blocks(query, gallery, rows=3))
    assert [start for start, _ in blocks] == [0, 3, 6]
    np.testing.assert_array_equal(torch.cat([block for _, block in blocks]), whole)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3)), "row 0 is all zeros"),
        (np.array([[1.0, 0], [np.nan, 0]]), "row 1 is not finite"),
        (np.array([[1.0, 0], [np.inf, 0]]), "row 1 is not finite"),
        (np.ones(3), "two dimensions"),
        (np.ones((2, 0)), "row 0 is all zeros"),
        (np.ones((2, 2), dtype=complex), "complex"),
    ],
)
def test_rows_without_a_direction_are_refused(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cosine(rows, rows)


def test_dimensions_have_to_agree() -> None:
    with pytest.raises(InputError, match="query embeddings have 3 dimensions, gallery embeddings 2"):
        cosine(np.ones((1, 3)), np.ones((1, 2)))
