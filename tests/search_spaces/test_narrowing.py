from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.narrowing import Narrowing, first_of, nearest, shown, stored

FLOAT = FloatDistribution(1e-6, 1e-2, log=True)
INT = IntDistribution(4, 64)
CHOICE = CategoricalDistribution(("a > b", "b > a"))
SWITCH = CategoricalDistribution((False, True, None))


@pytest.mark.parametrize(
    ("value", "distribution", "kept"),
    [
        ("1e-4", FLOAT, 1e-4),
        (0.01, FLOAT, 0.01),
        (8, INT, 8),
        (8.0, INT, 8),
        ("16", INT, 16),
        (["b", "a"], CHOICE, "b > a"),
        (True, SWITCH, True),
        (None, SWITCH, None),
    ],
)
def test_values_from_yaml_become_what_optuna_stores(value: Any, distribution: BaseDistribution, kept: Any) -> None:
    found = stored(value, distribution)
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("value", "distribution", "message"),
    [
        (1.0, FLOAT, "1.0 lies outside 1e-06 to 0.01"),
        (True, FLOAT, "True is no number"),
        ("fast", FLOAT, "'fast' is no number"),
        (None, INT, "None is no number"),
        (float("nan"), FLOAT, "nan lies outside"),
        (float("inf"), INT, "inf lies outside"),
        (float("-inf"), FLOAT, "-inf lies outside"),
        ("1e999", INT, "1e999 lies outside"),
        (8.5, INT, "8.5 is no whole number"),
        (["a", "a"], CHOICE, "'a > a' is not one of a > b, b > a"),
        (0, SWITCH, "0 is not one of false, true, none"),
    ],
)
def test_values_that_do_not_fit_say_what_does(value: Any, distribution: BaseDistribution, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stored(value, distribution)


def test_the_nearest_value_is_the_nearer_end_or_the_first_choice() -> None:
    assert [nearest(value, FLOAT) for value in (1e-9, 1e-3, 5)] == [1e-6, 1e-3, 1e-2]
    assert [nearest(value, INT) for value in (1, 5.5, 100, "x")] == [4, 64, 64, 4]
    assert nearest("c", CHOICE) == first_of(CHOICE) == "a > b"


def test_a_narrower_range_keeps_its_scale() -> None:
    narrowing = Narrowing({"full/lr": ("1e-5", 1e-3), "width": (8, 8), "kind": ("b > a",)})
    assert narrowing.apply("full/lr", FLOAT) == FloatDistribution(1e-5, 1e-3, log=True)
    assert narrowing.apply("any/width", INT) == IntDistribution(8, 8)
    assert narrowing.apply("any/kind", CHOICE) == CategoricalDistribution(("b > a",))
    assert narrowing.apply("other/lr", FLOAT) == FLOAT


def test_the_range_of_one_strategy_counts_before_that_of_all() -> None:
    narrowing = Narrowing({"lr": (1e-5, 1e-4), "full/lr": (1e-4, 1e-3)})
    assert narrowing.apply("full/lr", FLOAT) == FloatDistribution(1e-4, 1e-3, log=True)
    assert narrowing.apply("probe/lr", FLOAT) == FloatDistribution(1e-5, 1e-4, log=True)


def test_long_lists_of_choices_are_cut() -> None:
    assert shown(CategoricalDistribution(tuple("abcdefgh"))) == "one of a, b, c, d, e, f and 2 more"
