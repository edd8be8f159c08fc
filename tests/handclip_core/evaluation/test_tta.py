import numpy as np
import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation.tta import combine_flips


def test_embeddings_are_added_before_they_are_normalised() -> None:
    combined = combine_flips(np.array([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]], dtype=torch.float16))
    np.testing.assert_allclose(combined, [[0.6, 0.8]], atol=1e-6)
    assert combined.dtype == torch.float32


def test_what_cannot_be_combined_is_named() -> None:
    with pytest.raises(InputError, match=r"\[1, 2\], those of the mirror images \[2, 2\]"):
        combine_flips(np.ones((1, 2)), np.ones((2, 2)))
    with pytest.raises(InputError, match="row 0 is all zeros"):
        combine_flips(np.ones((1, 2)), -np.ones((1, 2)))
