from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handclip_core.data.samplers import PK, Balanced, Confusable, CrossAspect, Pool, Positions, Sampler, Shuffled

PEOPLE = np.repeat(np.arange(10), 8)
ASPECTS = np.tile(np.repeat(np.arange(4), 2), 10)
LINE = -np.abs(np.arange(10)[:, None] - np.arange(10)[None]).astype(np.float32)
"""Classes that stand in a line: the nearer, the more alike."""


def pool(labels: Positions, aspects: Positions | None = None) -> Pool:
    return Pool(labels, np.zeros_like(labels) if aspects is None else aspects)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
def test_shuffled_shows_every_image_once_an_epoch(n: int, batch: int, seed: int) -> None:
    steps = -(-3 * n // batch)
    everything = pool(np.zeros(n, np.int64))
    stream = np.concatenate([Shuffled(batch).step(step, everything, seed=seed) for step in range(steps)])
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


@pytest.mark.parametrize("sampler", [Shuffled(8), PK(4, 2), CrossAspect(4, 2), Confusable(4, 2, LINE), Balanced(8)])
def test_a_step_depends_on_its_number_alone(sampler: Sampler) -> None:
    everything = pool(PEOPLE, ASPECTS)
    forwards = [sampler.step(step, everything, seed=1) for step in range(20)]
    backwards = [sampler.step(step, everything, seed=1) for step in reversed(range(20))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not np.array_equal(forwards[0], sampler.step(0, everything, seed=2))
    assert {len(drawn) for drawn in forwards} == {sampler.batch_size}


def test_pk_draws_p_people_with_k_images_each() -> None:
    labels = np.repeat(np.arange(6), 5)
    drawn = PK(3, 4).step(0, pool(labels), seed=0)
    assert sorted(Counter(labels[drawn].tolist()).values()) == [4, 4, 4]
    assert len(set(drawn.tolist())) == 12, "no image twice where there are enough"


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3))
def test_pk_draws_no_class_more_often_than_it_must_and_visits_all_evenly(n: int, p: int, seed: int) -> None:
    batches = [PK(p, 1).step(step, pool(np.arange(n)), seed=seed) for step in range(3 * n)]
    assert all(max(Counter(batch.tolist()).values()) == -(-p // n) for batch in batches)
    assert all(len(set(batch.tolist())) == min(n, p) for batch in batches)
    assert set(Counter(np.concatenate(batches).tolist()).values()) == {3 * p}


def test_batches_that_cross_epochs_repeat_no_image() -> None:
    for sampler in (PK(4, 4), CrossAspect(4, 4)):
        for step in range(100):
            drawn = sampler.step(step, pool(PEOPLE, ASPECTS), seed=0)
            assert len(set(drawn.tolist())) == 16
            assert len(set(PEOPLE[drawn].tolist())) == 4


def test_pk_repeats_the_images_of_people_with_few() -> None:
    labels = np.array([0, 1, 1, 1, 1])
    drawn = PK(2, 4).step(0, pool(labels), seed=0)
    assert Counter(labels[drawn].tolist()) == {0: 4, 1: 4}


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pk_visits_people_evenly(p: int) -> None:
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
    drawn = [PK(p, 1).step(step, pool(labels), seed=0) for step in range(70)]
    visits = Counter(labels[np.concatenate(drawn)].tolist())
    assert set(visits.values()) == {10 * p}


@pytest.mark.parametrize(("k", "each"), [(2, [1, 1]), (4, [1, 1, 1, 1]), (6, [1, 1, 2, 2])])
def test_cross_aspect_spreads_a_person_over_aspects(k: int, each: list[int]) -> None:
    for step in range(3):
        drawn = CrossAspect(3, k).step(step, pool(PEOPLE, ASPECTS), seed=0)
        assert len(set(drawn.tolist())) == 3 * k, "no image twice where there are enough"
        for person in set(PEOPLE[drawn].tolist()):
            seen = Counter(ASPECTS[drawn][PEOPLE[drawn] == person].tolist())
            assert sorted(seen.values()) == each


def test_cross_aspect_repeats_where_a_person_shows_one_aspect_only() -> None:
    labels, aspects = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2])
    drawn = CrossAspect(2, 4).step(0, pool(labels, aspects), seed=0)
    assert Counter(labels[drawn].tolist()) == {0: 4, 1: 4}
    assert Counter(aspects[drawn][labels[drawn] == 1].tolist()) == {0: 2, 2: 2}


def test_classes_that_are_alike_come_together_and_each_is_the_first_equally_often() -> None:
    sampler, firsts = Confusable(3, 2, LINE), Counter[int]()
    for step in range(30):
        drawn = PEOPLE[sampler.step(step, pool(PEOPLE), seed=4)]
        first, *others = drawn[::2].tolist()
        assert np.array_equal(drawn[::2], drawn[1::2])
        distance = {one: abs(one - first) for one in range(10) if one != first}
        assert sorted(distance[one] for one in others) == sorted(distance.values())[:2]
        firsts[first] += 1
    assert firsts == dict.fromkeys(range(10), 3)


def test_of_classes_that_are_not_all_there_the_others_come_together() -> None:
    labels = np.repeat([2, 3, 8], 4)
    for step in range(3):
        drawn = labels[Confusable(2, 2, LINE).step(step, pool(labels), seed=0)]
        assert set(drawn.tolist()) in ({2, 3}, {8, 3})
    assert Counter(labels[Confusable(4, 2, LINE).step(0, pool(labels), seed=0)].tolist()).total() == 8


def test_balanced_shows_aspects_and_people_equally_often_whatever_they_have() -> None:
    labels = np.array([0] * 9 + [1] + [2] * 2 + [0] + [1] * 3)
    aspects = np.array([0] * 12 + [3] * 4)
    drawn = np.concatenate([Balanced(4).step(step, pool(labels, aspects), seed=5) for step in range(60)])
    seen = Counter(zip(aspects[drawn].tolist(), labels[drawn].tolist(), strict=True))
    assert seen == {(0, 0): 40, (0, 1): 40, (0, 2): 40, (3, 0): 60, (3, 1): 60}
    assert len(set(drawn.tolist())) == 16, "every image is shown"
