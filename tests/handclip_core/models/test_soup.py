from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.soup import greedy_members, interpolate, uniform_soup

State = dict[str, Tensor]


def looked_up(table: dict[tuple[int, ...], int], chosen: tuple[int, ...]) -> float:
    return float(table[tuple(sorted(chosen))])


def state(value: float, *, steps: int = 0) -> State:
    return {"weight": torch.full((2, 3), value), "steps": torch.tensor(steps)}


def test_interpolation_runs_from_zero_shot_to_fine_tuned() -> None:
    zero_shot, tuned = state(1.0), state(3.0, steps=7)
    for alpha, expected in ((0.0, 1.0), (0.25, 1.5), (1.0, 3.0)):
        torch.testing.assert_close(interpolate(zero_shot, tuned, alpha)["weight"], torch.full((2, 3), expected))
    assert torch.equal(zero_shot["weight"], torch.ones(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_share_of_0_or_1_gives_one_side_to_the_last_bit(dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    one, other = ({"w": torch.randn(1000, generator=random, dtype=torch.float64).to(dtype)} for _ in range(2))
    for alpha, expected in ((0.0, one), (1.0, other)):
        found = interpolate(one, other, alpha)["w"]
        assert found.dtype == dtype
        assert torch.equal(found, expected["w"])
    assert torch.equal(uniform_soup([one])["w"], one["w"])


def test_double_precision_stays_double() -> None:
    one, other = (torch.tensor([1.0 + step * 2**-40], dtype=torch.float64) for step in (1, 3))
    found = (interpolate({"w": one}, {"w": other}, 0.5)["w"], uniform_soup([{"w": one}, {"w": other}])["w"])
    for mean in found:
        assert mean.dtype == torch.float64
        assert mean.item() == 1 + 2 * 2**-40
    rounded = interpolate({"w": one.float()}, {"w": other}, 0.5)["w"]
    assert rounded.dtype == torch.float32


def test_a_linear_model_interpolates_its_output_too() -> None:
    torch.manual_seed(0)
    one, other, between = (nn.Linear(4, 3) for _ in range(3))
    inputs = torch.randn(5, 4)
    between.load_state_dict(interpolate(one.state_dict(), other.state_dict(), 0.3))
    torch.testing.assert_close(between(inputs), 0.7 * one(inputs) + 0.3 * other(inputs))


def test_what_zero_shot_does_not_have_stays_as_trained_and_is_a_copy() -> None:
    tuned = {"backbone": torch.ones(2), "head": torch.full((4,), 5.0)}
    mixed = interpolate({"backbone": torch.zeros(2), "other": torch.zeros(1)}, tuned, 0.5)
    assert mixed.keys() == tuned.keys()
    assert torch.equal(mixed["head"], tuned["head"])
    mixed["head"].zero_()
    assert tuned["head"][0] == 5


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="choose from 0"):
        interpolate(state(0), state(1), alpha)


def test_a_uniform_soup_is_the_mean_and_counters_are_the_firsts() -> None:
    soup = uniform_soup([state(1.0, steps=3), state(2.0, steps=4), state(6.0, steps=5)])
    torch.testing.assert_close(soup["weight"], torch.full((2, 3), 3.0))
    assert soup["steps"] == 3


def test_half_precision_is_averaged_in_full_precision() -> None:
    halves: list[State] = [{"w": torch.tensor([60000.0], dtype=torch.float16)} for _ in range(3)]
    assert uniform_soup(halves)["w"].item() == 60000.0
    assert uniform_soup(halves)["w"].dtype == torch.float16


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"weight": torch.zeros(3, 2), "steps": torch.tensor(0)}, "'weight' has the shapes"),
        ({"weight": torch.zeros(2, 3)}, "'steps' is not in both weights 1 and 2"),
    ],
)
def test_models_of_different_shapes_make_no_soup(other: State, message: str) -> None:
    with pytest.raises(InputError, match=message):
        uniform_soup([state(0), other])
    if other["weight"].shape != (2, 3):
        with pytest.raises(InputError, match=message):
            interpolate(other, state(0), 0.5)


def test_nothing_makes_no_soup() -> None:
    for make in (lambda: uniform_soup([]), lambda: greedy_members(0, len)):
        with pytest.raises(InputError, match="at least one"):
            make()


def test_the_greedy_soup_takes_what_does_not_harm_best_first() -> None:
    """The score is how near the mean is to 2; alone, 3.0 is nearest, then 0.5, then 9."""
    states = [state(9.0), state(0.5), state(3.0)]

    def nearness(chosen: tuple[int, ...]) -> float:
        return -abs(uniform_soup([states[i] for i in chosen])["weight"][0, 0].item() - 2.0)

    members, score = greedy_members(len(states), nearness)
    assert members == (2, 1)
    assert score == pytest.approx(-0.25)


def test_greedy_members_are_those_of_a_plain_walk_over_all_cases() -> None:
    """Every table of scores of the non-empty subsets of three, with three values a subset."""
    subsets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    for values in product(range(2), repeat=len(subsets)):
        table: dict[tuple[int, ...], int] = dict(zip(subsets, values, strict=True))
        members, best = greedy_members(3, partial(looked_up, table))
        assert best == table[tuple(sorted(members))]
        assert best >= max(table[(position,)] for position in range(3))
        rest = [position for position in range(3) if position not in members]
        assert table[(members[0],)] == max(table[(position,)] for position in range(3))
        for position in rest:
            joined_before = [m for m in members if (-table[(m,)], m) < (-table[(position,)], position)]
            assert table[tuple(sorted([*joined_before, position]))] < table[tuple(sorted(joined_before))]
