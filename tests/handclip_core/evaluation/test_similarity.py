import numpy as np
import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.similarity import CosineBlock, Units, cosine, margin_of, normalised


def test_cosines_of_tiny_and_huge_rows() -> None:
    rows = np.array([[3e-200, 4e-200], [3e200, 4e200], [-4.0, 3.0]])
    np.testing.assert_allclose(cosine(rows, rows).numpy(), [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-7)
    half = torch.tensor([[6e-8, 0.0], [6e4, 6e4]], dtype=torch.float16)
    assert normalised(half).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_fast_cosines_are_well_within_their_margin() -> None:
    rng = np.random.default_rng(0)
    for dimensions in (3, 512, 4096):
        query, gallery = rng.standard_normal((50, dimensions)), rng.standard_normal((300, dimensions)) + 0.5
        block = CosineBlock.of(Units(query), Units(gallery))
        assert block.margin == margin_of(dimensions) > 0
        assert np.abs(block.values.numpy() - block.exact()).max() < block.margin / 5
        np.testing.assert_array_equal(block.exact(), cosine(query, gallery))
        row, column = rng.integers(0, 50, 200), rng.integers(0, 300, 200)
        np.testing.assert_allclose(block.exact_pairs(row, column), block.exact()[row, column], atol=6e-8)


def test_single_pairs_of_huge_and_tiny_rows() -> None:
    rows = np.array([[3e200, 4e200], [3e-200, 4e-200], [-4e200, 3e200]])
    block = CosineBlock.of(Units(rows), Units(rows))
    np.testing.assert_allclose(block.exact_pairs(np.array([0, 0, 2]), np.array([1, 2, 2])), [1, 0, 1], atol=1e-7)


def test_cosines_are_exact_at_once_where_torch_may_round_products() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 8))
    torch.set_float32_matmul_precision("medium")
    try:
        block = CosineBlock.of(Units(rows), Units(rows))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert block.margin == 0
    np.testing.assert_array_equal(block.values, cosine(rows, rows))


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
