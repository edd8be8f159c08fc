import numpy as np
import pytest
import torch

from handclip_core.data.manifest import GallerySplit
from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import compare_paired, estimate
from handclip_core.evaluation.protocol import ProtocolScores, score_gallery_splits
from handclip_core.evaluation.seeds import SeedSamples, beats, compare_seeds, estimate_seeds, sample_seeds

PEOPLE, EACH = 14, 4
IDENTITIES = np.repeat(np.arange(PEOPLE), EACH)
FIRSTS = tuple(range(0, PEOPLE * EACH, EACH))
OTHERS = tuple(row for row in range(PEOPLE * EACH) if row not in FIRSTS)
DRAWS = (GallerySplit(gallery={"dorsal right": FIRSTS}, query={"dorsal right": OTHERS}),)


def scores(noise: float, seed: int, *, draws: tuple[GallerySplit, ...] = DRAWS) -> ProtocolScores:
    """Identities as points of a plane, their images ``noise`` off them: more noise, lower scores."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(PEOPLE, 3, generator=random)
    wobble = torch.randn(len(IDENTITIES), 3, generator=random.manual_seed(seed))
    return score_gallery_splits(centres[IDENTITIES] + noise * wobble, np.arange(len(IDENTITIES)), draws, IDENTITIES)


def model(noise: float, seeds: tuple[int, ...] = (1, 2, 3)) -> SeedSamples:
    return sample_seeds([scores(noise, seed) for seed in seeds])


def test_mean_and_spread_are_over_seeds_and_the_interval_over_people() -> None:
    runs = [scores(0.6, seed) for seed in (1, 2, 3)]
    found = estimate_seeds(sample_seeds(runs))
    values = [run.overall.map.mean for run in runs]
    assert found.mean == pytest.approx(sum(values) / 3)
    assert found.sd == pytest.approx(float(np.std(values, ddof=1)))
    assert (found.num_seeds, found.num_identities) == (3, PEOPLE)
    assert found.low < found.mean < found.high


def test_the_interval_is_that_of_the_mean_of_the_queries_over_seeds() -> None:
    """Resampling whole identities by a plain loop over their mean precision gives the same percentiles up to chance."""
    runs = [scores(0.6, seed) for seed in (1, 2, 3)]
    by_query = np.mean([run.queries.ap for run in runs], axis=0)
    by_person = np.array([by_query[runs[0].queries.identity == person].mean() for person in range(PEOPLE)])
    random = np.random.default_rng(7)
    means = [by_person[random.integers(0, PEOPLE, PEOPLE)].mean() for _ in range(4000)]
    found = estimate_seeds(sample_seeds(runs))
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.015)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.015)


def test_one_seed_is_the_estimate_and_the_comparison_of_two_models() -> None:
    one, other = scores(0.5, 1), scores(0.7, 1)
    single, against = (sample_seeds([item]) for item in (one, other))
    assert estimate_seeds(single).sd is None
    expected = estimate(one)
    assert (estimate_seeds(single).low, estimate_seeds(single).high) == (expected.low, expected.high)
    assert compare_seeds(single, against) == compare_paired(one, other)


def test_seeds_that_disagree_widen_the_interval_of_a_difference() -> None:
    """Two models that differ by noise of the seeds alone: over identities a seed's gap is sure, over both it is not."""
    num_identities, num = 5, 2000
    level = SeedSamples(np.zeros(3), np.zeros((3, num)), num_identities)
    offsets = np.array([0.3, 0.3, -0.5])
    noisy = SeedSamples(offsets, np.tile(offsets[:, None], (1, num)), num_identities)
    found = compare_seeds(noisy, level)
    assert found.difference == pytest.approx(1 / 30)
    assert found.low == pytest.approx(-0.5)
    assert found.high == pytest.approx(0.3)
    # Of 27 ways to draw three of three seeds, those without the bad one (8) and with it once (12) have a mean above 0.
    assert found.probability == pytest.approx(20 / 27, abs=0.03)


def test_the_seeds_of_both_models_are_drawn_together() -> None:
    """A model that is better by the same amount on every seed beats the other in every resample of the seeds."""
    offsets = np.array([0.1, 0.5, 0.9])
    base = SeedSamples(offsets, np.tile(offsets[:, None], (1, 500)), 4)
    better = SeedSamples(offsets + 0.01, base.samples + 0.01, 4)
    found = compare_seeds(better, base)
    assert found.probability == 1
    assert [found.low, found.high] == pytest.approx([0.01, 0.01])


def test_the_matrix_of_wins_adds_up_to_one_across_the_diagonal() -> None:
    models = [model(0.4), model(0.7), model(0.7)]
    table = beats(models)
    np.testing.assert_allclose(table + table.T, 1)
    np.testing.assert_allclose(np.diag(table), 0.5)
    assert table[0, 1] > 0.95
    assert table[1, 2] == 0.5
    assert table[0, 1] == compare_seeds(models[0], models[1]).probability


def test_runs_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="without a single run"):
        sample_seeds([])
    with pytest.raises(InputError, match="different seeds"):
        compare_seeds(model(0.5), model(0.5, seeds=(1, 2)))
    half = (GallerySplit(gallery={"dorsal right": FIRSTS}, query={"dorsal right": OTHERS[::2]}),)
    with pytest.raises(InputError, match="different queries"):
        sample_seeds([scores(0.5, 1), scores(0.5, 2, draws=half)])
