import dataclasses

import numpy as np
import pytest
import torch

from handclip_core.errors import InputError
from handclip_core.evaluation import ranks as ranks_module
from handclip_core.evaluation.ranks import Matcher, _count, _count_tensor, match_ranks
from handclip_core.evaluation.similarity import CosineBlock, Units


@pytest.mark.parametrize(("wide", "part"), [(4096, 1 << 20), (10, 1 << 20), (4096, 130)])
@pytest.mark.parametrize("num_matches", [1, 5, 30])
@pytest.mark.parametrize("lowest", [0, 1950])
@pytest.mark.parametrize("masked", [False, True])
def test_all_ways_to_count_agree_with_a_plain_count(
    wide: int, part: int, num_matches: int, lowest: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few and many matches, that stand anywhere or at the top, in rows with and without excluded entries."""
    monkeypatch.setattr(ranks_module, "WIDE", wide)
    monkeypatch.setattr(ranks_module, "PART", part)
    monkeypatch.setattr(ranks_module, "PART_ON_DEVICE", part)
    rng = np.random.default_rng(0)
    block = rng.integers(0, 2000, (4, 100)).astype(np.float32)
    block[0] = -np.inf
    if masked:
        block[rng.random(block.shape) < 0.3] = np.nan
    row = np.repeat([0, 1, 3], num_matches)
    values = -np.sort(-rng.integers(lowest, 2000, (3, num_matches)), axis=1).astype(np.float32).ravel()
    expected = [sum(1 for entry in block[r].tolist() if entry >= v) for r, v in zip(row, values, strict=True)]
    assert _count(block, row, values).tolist() == expected
    assert _count_tensor(torch.from_numpy(block), row, values).tolist() == expected


def test_pairs_of_a_slice_of_queries() -> None:
    matcher = Matcher(np.array([2, 0, 5, 2]), np.array([2, 1, 2, 0]))
    row, column = matcher.pairs(0, 4)
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 3), (3, 0), (3, 2)]
    assert [part.tolist() for part in matcher.pairs(2, 4)] == [[1, 1], [0, 2]]


@pytest.mark.parametrize("levels", [0.0, 1e-7, 1e-6, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_fast_cosines_give_the_ranks_of_exact_ones(levels: float, masked: bool) -> None:
    """Embeddings so close to each other, or equal, that their cosines differ by less than the error of float32."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((20, 64))
    gallery = np.repeat(rng.standard_normal((40, 64)), 3, axis=0) + levels * rng.standard_normal((120, 64))
    block = CosineBlock.of(Units(query), Units(gallery))
    exact = block.exact()
    noise = rng.uniform(-0.4, 0.4, exact.shape) * block.margin
    rough = dataclasses.replace(block, values=torch.from_numpy((exact + noise).astype(np.float32)))
    row, column = np.repeat(np.arange(20), 2), rng.permutation(120)[:40]
    exclude = rng.random(exact.shape) < 0.3 if masked else None
    expected = match_ranks(exact, row, column, exclude)
    found = match_ranks(rough.values.numpy(), row, column, exclude, cosines=rough)
    np.testing.assert_array_equal(found.rank, expected.rank)
    np.testing.assert_array_equal(found.num_matches, expected.num_matches)


def test_a_collapsed_gallery_is_computed_exactly_at_once() -> None:
    block = CosineBlock.of(Units(np.ones((3, 4))), Units(np.ones((50, 4)) * np.arange(1, 51)[:, None]))
    found = match_ranks(block.values.numpy(), np.arange(3), np.arange(3), cosines=block)
    assert found.rank.tolist() == [50, 50, 50]


@pytest.mark.parametrize("masked", [False, True])
def test_tensors_are_ranked_as_arrays_are(masked: bool) -> None:
    rng = np.random.default_rng(1)
    block = rng.integers(0, 9, (10, 50)).astype(np.float32)
    exclude = rng.random(block.shape) < 0.4 if masked else None
    row, column = np.repeat(np.arange(10), 3), rng.permutation(50)[:30]
    expected = match_ranks(block, row, column, exclude)
    found = match_ranks(torch.from_numpy(block), row, column, exclude)
    np.testing.assert_array_equal(found.rank, expected.rank)
    np.testing.assert_array_equal(found.query, expected.query)
    block[3, 4] = np.nan
    with pytest.raises(InputError, match="NaN"):
        match_ranks(torch.from_numpy(block), row, column)
