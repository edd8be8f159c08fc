import numpy as np
import pytest

from tune_jobs.search.expected_improvement import expected_improvement, expected_maximum


@pytest.mark.parametrize(
    ("count", "mean"), [(1, 0.0), (2, 0.56419), (3, 0.84628), (5, 1.16296), (10, 1.53875), (1000, 3.24144)]
)
def test_expected_maxima_are_those_of_the_tables(count: int, mean: float) -> None:
    assert expected_maximum(count) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(("mean", "sd", "best"), [(0.5, 0.1, 0.4), (0.5, 0.1, 0.7), (0.0, 2.0, 0.0)])
def test_expected_improvements_are_those_of_many_draws(mean: float, sd: float, best: float) -> None:
    draws = np.random.default_rng(0).normal(mean, sd, 400_000)
    assert expected_improvement(mean, sd, best) == pytest.approx(np.maximum(draws - best, 0).mean(), rel=0.02)


def test_without_spread_the_improvement_is_the_difference() -> None:
    assert expected_improvement(0.75, 0.0, 0.5) == 0.25
    assert expected_improvement(0.25, 0.0, 0.5) == 0.0
