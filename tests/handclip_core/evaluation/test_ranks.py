from typing import Any

import numpy as np
import pytest
import torch

from handclip_core.evaluation import ranks as ranks_module
from handclip_core.evaluation.ranks import Matcher, _count, _count_sorted, _count_tensor


@pytest.mark.parametrize(("wide", "part"), [(4096, 1 << 20), (10, 1 << 20), (4096, 130)])
@pytest.mark.parametrize("masked", [False, True])
def test_all_ways_to_count_agree_with_a_plain_count(
    wide: int, part: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_module, "WIDE", wide)
    monkeypatch.setattr(ranks_module, "PART", part)
    monkeypatch.setattr(ranks_module, "PART_ON_DEVICE", part)
    rng = np.random.default_rng(0)
    block = rng.integers(0, 9, (12, 60)).astype(np.float32)
    block[0] = -np.inf
    if masked:
        block[rng.random(block.shape) < 0.3] = np.nan
    row = np.sort(rng.integers(0, 12, 50))
    values = rng.integers(0, 9, 50).astype(np.float32)
    expected = [sum(1 for entry in block[r].tolist() if entry >= v) for r, v in zip(row, values, strict=True)]
    assert _count(block, row, values).tolist() == expected
    assert _count_sorted(block, row, values).tolist() == expected
    assert _count_tensor(torch.from_numpy(block), row, values).tolist() == expected


def test_many_matches_are_counted_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = ranks_module._count_sorted

    def counted(block: Any, row: Any, values: Any) -> Any:
        calls.append(len(row))
        return plain(block, row, values)

    monkeypatch.setattr(ranks_module, "_count_sorted", counted)
    block = np.arange(40, dtype=np.float32)[None]
    few, many = np.zeros(3, dtype=np.int64), np.zeros(40, dtype=np.int64)
    assert _count(block, few, block[0, :3]).tolist() == [40, 39, 38]
    assert not calls
    assert _count(block, many, block[0]).tolist() == list(range(40, 0, -1))
    assert calls == [40]


def test_pairs_of_a_slice_of_queries() -> None:
    matcher = Matcher(np.array([2, 0, 5, 2]), np.array([2, 1, 2, 0]))
    row, column = matcher.pairs(0, 4)
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 3), (3, 0), (3, 2)]
    assert [part.tolist() for part in matcher.pairs(2, 4)] == [[1, 1], [0, 2]]
