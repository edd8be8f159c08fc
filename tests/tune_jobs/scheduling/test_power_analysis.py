from math import sqrt

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from tune_jobs.scheduling.power_analysis import (
    PowerAnalysis,
    best_split,
    expected_gain,
    trials_worth_running,
)

FOUND = PowerAnalysis((0.712, 0.705, 0.719, 0.701, 0.708))


def test_the_smallest_difference_follows_the_printed_tables_of_t() -> None:
    # t tables at 4 degrees of freedom: 2.776 (two-sided 5 %) and 0.941 (one-sided 20 %).
    assert FOUND.sd == pytest.approx(sqrt(sum((x - 0.709) ** 2 for x in FOUND.scores) / 4))
    assert FOUND.smallest_difference(3) == pytest.approx((2.776 + 0.941) * FOUND.sd * sqrt(2 / 3), rel=1e-3)
    assert FOUND.smallest_difference(12) == pytest.approx(FOUND.smallest_difference(3) / 2)


def test_a_difference_of_that_size_is_found_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    seeds, true_sd = 5, 0.01
    asked = PowerAnalysis(tuple(rng.normal(0.7, true_sd, 2000)))
    difference = asked.smallest_difference(seeds)
    pairs = rng.normal(0, true_sd, (4000, 2, seeds)) + np.array([0.0, difference])[:, None]
    found = stats.ttest_ind(pairs[:, 1], pairs[:, 0], axis=1).pvalue < 0.05
    # With the noise known to 2,000 seeds, t at 1,999 degrees is laxer than the test's own at 8.
    assert 0.68 < found.mean() < 0.82


def test_the_interval_of_the_noise_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(800):
        low, high = PowerAnalysis(tuple(rng.normal(0.5, 0.02, 5))).sd_interval
        inside += low <= 0.02 <= high
    assert 0.87 < inside / 800 < 0.93


def test_the_expected_gain_is_what_drawing_many_sweeps_gives() -> None:
    rng = np.random.default_rng(2)
    sd, spread, trials, replicas = 0.02, 0.03, 12, 3
    truth = rng.normal(0, spread, (20_000, trials))
    seen = truth + rng.normal(0, sd / sqrt(replicas), truth.shape)
    chosen = truth[np.arange(len(truth)), seen.argmax(axis=1)]
    assert expected_gain(trials, replicas, sd=sd, spread=spread) == pytest.approx(chosen.mean(), rel=0.02)


def test_many_seeds_pay_where_configurations_hardly_differ_and_one_where_they_do() -> None:
    assert best_split(60, sd=1.0, spread=5.0).replicas == 1
    assert best_split(60, sd=1.0, spread=0.1).replicas > 3
    best = best_split(12, sd=1.0, spread=0.5)
    gains = [expected_gain(12 // n, n, sd=1.0, spread=0.5) for n in range(1, 13)]
    assert best.gain == pytest.approx(max(gains))


def test_trials_worth_running_are_the_fewest_whose_gain_can_be_seen() -> None:
    spread = 2 * FOUND.sd
    worth = trials_worth_running(FOUND, spread=spread, seeds=5)
    assert worth is not None
    visible = FOUND.smallest_difference(5)
    assert expected_gain(worth, 1, sd=FOUND.sd, spread=spread) >= visible
    assert expected_gain(worth - 1, 1, sd=FOUND.sd, spread=spread) < visible
    assert trials_worth_running(FOUND, spread=0.01 * FOUND.sd, seeds=5) is None
