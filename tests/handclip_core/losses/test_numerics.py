import torch

from handclip_core.losses.numerics import at_least_float32, without_autocast


def test_half_precision_becomes_float32_and_float64_stays() -> None:
    types = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float64: torch.float64}
    assert {given: at_least_float32(torch.ones(1, dtype=given)).dtype for given in types} == types


def test_products_keep_their_precision_under_autocast() -> None:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with without_autocast(a):
            inside = a @ a
    assert torch.equal(inside, a @ a)
