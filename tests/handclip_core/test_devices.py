import os

import numpy as np
import pytest
import torch

from handclip_core.devices import (
    CLEAR_REFS,
    MIB,
    peak_memory,
    peak_own_memory,
    reset_peak_memory,
    seed_generator,
)


def test_the_generator_draws_what_it_draws_after_manual_seed() -> None:
    for seed in (0, 7, 2**62):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        torch.rand(3)
        seed_generator(seed, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.skipif(not os.access(CLEAR_REFS, os.W_OK), reason="the system cannot set a peak back")
def test_the_peak_of_memory_is_that_since_it_was_set_back() -> None:
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    block = np.ones(64 * MIB)  # 512 MiB, of which a busy system may take others back meanwhile
    assert peak_memory(cpu) >= before + 256 * MIB
    del block
    assert peak_memory(cpu) >= before + 256 * MIB
    assert peak_own_memory() >= 256 * MIB
    reset_peak_memory(cpu)
    assert peak_memory(cpu) < before + 256 * MIB
    assert 0 < peak_own_memory() < peak_memory(cpu), "without the files of libraries"
