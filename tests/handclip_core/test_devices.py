import torch

from handclip_core.devices import seed_generator


def test_the_generator_draws_what_it_draws_after_manual_seed() -> None:
    for seed in (0, 7, 2**62):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        torch.rand(3)
        seed_generator(seed, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected)
