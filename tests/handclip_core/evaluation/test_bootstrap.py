import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import compare_paired, estimate, mean_estimate
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores, QueryScores, collect


def scores_of(
    ap: NDArray[np.float64], *, person: NDArray[np.int64], num_draws: int = 1, aspects: tuple[str, ...] = ("unknown",)
) -> ProtocolScores:
    """Scores in which each query has the given AP [M], its identity [M], draws and aspects in turn."""
    cell = np.arange(len(ap)) % (num_draws * len(aspects))
    queries = QueryScores(
        draw=cell // len(aspects),
        aspect=cell % len(aspects),
        row=np.arange(len(ap)),
        identity=person,
        ap=ap,
        ap_trapezoid=ap / 2,
        inp=ap,
        first_rank=np.where(np.isnan(ap), 0, np.where(ap > 0.5, 1, 4)),
    )
    return collect(queries, aspects, gallery=GalleryKind.OWN, without_query=())


def test_the_value_is_that_of_the_protocol() -> None:
    rng = np.random.default_rng(0)
    scores = scores_of(rng.random(1200), person=rng.integers(0, 30, 1200), num_draws=3, aspects=("a", "b"))
    for metric in ("map", "map_trapezoid", "minp", "cmc1", "cmc5"):
        assert estimate(scores, metric).value == pytest.approx(getattr(scores.overall, metric).mean, abs=1e-12)
        one = estimate(scores, metric, part="b")
        assert one.value == pytest.approx(getattr(scores.per_aspect["b"], metric).mean, abs=1e-12)
    found = estimate(scores)
    assert found.low < found.value < found.high
    assert found.num_identities == 30
    assert estimate(scores) == found
    assert estimate(scores, seed=1) != found


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Queries of an identity share its luck: resampling queries instead of identities would hold it far more rarely."""
    rng = np.random.default_rng(1)
    held, held_by_queries = [], []
    for _ in range(100):
        person = np.repeat(np.arange(40), 10)
        ap = 0.5 + np.repeat(rng.normal(0, 0.1, 40), 10) + rng.normal(0, 0.05, 400)
        found = estimate(scores_of(ap, person=person))
        held.append(found.low <= 0.5 <= found.high)
        naive = estimate(scores_of(ap, person=np.arange(400)))
        held_by_queries.append(naive.low <= 0.5 <= naive.high)
    assert 0.88 <= np.mean(held) <= 0.99
    assert np.mean(held_by_queries) < 0.7


def test_pairing_sees_a_gap_that_two_intervals_do_not() -> None:
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(50), 10)
    ap = np.clip(0.6 + np.repeat(rng.normal(0, 0.2, 50), 10), 0, 0.9)
    worse, better = scores_of(ap, person=person), scores_of(ap + 0.02 + rng.normal(0, 0.01, 500), person=person)
    gap = compare_paired(better, worse)
    assert gap.difference == pytest.approx(0.02, abs=0.002)
    assert 0 < gap.low < gap.difference < gap.high
    assert gap.probability == 1
    assert estimate(worse).high > estimate(better).low
    back = compare_paired(worse, better)
    assert (back.difference, back.low, back.high) == pytest.approx((-gap.difference, -gap.high, -gap.low))
    assert back.probability == 0


def test_equal_models_beat_each_other_half_of_the_time() -> None:
    rng = np.random.default_rng(3)
    person = rng.integers(0, 20, 300)
    one = scores_of(rng.random(300), person=person)
    gap = compare_paired(one, one)
    assert (gap.difference, gap.low, gap.high, gap.probability) == (0, 0, 0, 0.5)
    noise = [
        compare_paired(scores_of(rng.random(300), person=person), scores_of(rng.random(300), person=person)).probability
        for _ in range(40)
    ]
    assert 0.3 < np.mean(noise) < 0.7
    assert min(noise) < 0.3 < 0.7 < max(noise)


def test_queries_without_a_match_have_no_part() -> None:
    ap = np.array([0.2, np.nan, 0.6, 0.4])
    scores = scores_of(ap, person=np.array([0, 1, 2, 0]))
    assert estimate(scores).value == pytest.approx(0.4)
    assert estimate(scores).num_identities == 2
    assert scores.num_unmatched == 1
    values, people = scores.queries.metric("map"), scores.queries.identity
    assert mean_estimate(values[:2], people[:2]).value == pytest.approx(0.2)
    with pytest.raises(InputError, match="no query with a match"):
        mean_estimate(values[1:2], people[1:2])


def test_models_scored_on_different_queries_are_not_compared() -> None:
    ap, person = np.array([0.2, 0.3, 0.6, 0.4]), np.array([0, 1, 2, 0])
    scores = scores_of(ap, person=person)
    with pytest.raises(InputError, match="gallery 'own', the other on 'all'"):
        compare_paired(scores, dataclasses.replace(scores, gallery=GalleryKind.ALL))
    with pytest.raises(InputError, match="different queries or draws"):
        compare_paired(scores, scores_of(ap[:3], person=person[:3]))
    with pytest.raises(InputError, match="different queries or draws"):
        compare_paired(scores, scores_of(ap, person=person, num_draws=2))
    with pytest.raises(InputError, match="a match for one model and none for the other"):
        compare_paired(scores, scores_of(np.array([np.nan, 0.3, 0.6, 0.4]), person=person))
    with pytest.raises(InputError, match="aspect 'palm' was not scored; there are unknown"):
        estimate(scores, part="palm")
