import math

import pytest
from torch import nn

from handclip_core.engine.optim import build_optimizer, choose, freeze_all_but, rate_factor, set_rate
from handclip_core.engine.phase import Optim, Schedule, Train
from handclip_core.strategies import ClipReid


def small_model() -> nn.Module:
    blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(3)])
    return nn.ModuleDict({"block": blocks, "blocks_end": nn.Linear(2, 1)})


def names(model: nn.Module, *train: Train) -> list[str]:
    return [item.name for item in choose(model, train)]


def test_a_prefix_ends_at_a_dot() -> None:
    assert names(small_model(), Train("blocks_end")) == ["blocks_end.weight", "blocks_end.bias"]
    assert len(names(small_model(), Train("block"))) == 12


def test_a_star_stands_for_one_part_of_a_name() -> None:
    assert names(small_model(), Train("block.*.1")) == [
        f"block.{i}.1.{kind}" for i in range(3) for kind in ("weight", "bias")
    ]


def test_the_first_match_wins() -> None:
    chosen = choose(small_model(), (Train("block.2", 0.5), Train("block", 0.1)))
    assert {item.name[:7]: item.train.lr_scale for item in chosen} == {"block.0": 0.1, "block.1": 0.1, "block.2": 0.5}


def test_a_prefix_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="'nothing'"):
        choose(small_model(), (Train("block"), Train("nothing")))


def test_what_is_not_chosen_is_frozen() -> None:
    model = small_model()
    freeze_all_but(model, choose(model, (Train("block.1"),)))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names(model, Train("block.1"))


def test_groups_carry_rates_and_decay_only_matrices() -> None:
    model = small_model()
    optim = Optim(lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(choose(model, (Train("block.0", 0.5), Train("blocks_end"))), optim)
    rows = {(g["name"], g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups}
    assert rows == {
        ("block.0", 0.005, 0.1, 1),
        ("block.0", 0.005, 0.0, 3),
        ("blocks_end", 0.01, 0.1, 1),
        ("blocks_end", 0.01, 0.0, 1),
    }


def test_the_rate_warms_up_and_follows_a_half_cosine() -> None:
    optim = Optim(lr=1e-3, warmup=0.2, schedule=Schedule.COSINE)
    factors = [rate_factor(optim, step=step, num_steps=10) for step in range(10)]
    assert factors[:2] == [0.5, 1.0]
    assert factors[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_the_rate_falls_in_steps_as_in_clip_reid() -> None:
    """Warm-up over 10 of 60 epochs, a tenth of the rate from epoch 30 on, a hundredth from epoch 50 on."""
    optim = ClipReid().optim
    factors = [rate_factor(optim, step=step, num_steps=60) for step in range(60)]
    assert factors == pytest.approx([(step + 1) / 10 for step in range(10)] + [1.0] * 20 + [0.1] * 20 + [0.01] * 10)


def test_the_rate_reaches_the_optimizer() -> None:
    model = small_model()
    optim = Optim(lr=1e-3, warmup=0.5)
    optimizer = build_optimizer(choose(model, (Train("block", 0.1),)), optim)
    set_rate(optimizer, optim, step=0, num_steps=8)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(1e-3 * 0.1 / 4)] * 2
