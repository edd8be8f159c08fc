import numpy as np
import pytest
import torch

from handclip_core.evaluation import ranks as ranks_module
from handclip_core.evaluation.ranks import Matcher, _count, _count_tensor


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
