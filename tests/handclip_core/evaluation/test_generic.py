import numpy as np
import pytest
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from handclip_core.evaluation.generic import PROMPTS, agreement, similarities


def test_agreement_is_scipys_rank_correlation() -> None:
    random = torch.Generator().manual_seed(0)
    before, after = (torch.rand(5, 12, generator=random) for _ in range(2))
    wanted = [spearmanr(before[i].numpy(), after[i].numpy()).statistic for i in range(5)]
    np.testing.assert_allclose(agreement(before, after).numpy(), wanted, atol=1e-12)


def test_what_changes_no_order_changes_nothing() -> None:
    before = torch.rand(4, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(agreement(before, 3 * before - 7), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(agreement(before, -before), -torch.ones(4, dtype=torch.float64))


def test_similarities_are_cosines() -> None:
    images, texts = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0], [5.0, 5.0]])
    assert similarities(images, texts)[0].tolist() == pytest.approx([0, 2**-0.5])


def test_no_prompt_is_there_twice() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS)
