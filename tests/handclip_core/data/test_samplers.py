from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handclip_core.data.samplers import PK, Shuffled


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 5))
def test_shuffled_shows_every_picture_once_an_epoch(n: int, batch: int, seed: int) -> None:
    labels = np.zeros(n, np.int64)
    steps = -(-3 * n // batch)
    stream = np.concatenate([Shuffled(batch).step(step, labels=labels, seed=seed) for step in range(steps)])
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_a_step_depends_on_its_number_alone() -> None:
    labels = np.repeat(np.arange(10), 3)
    for sampler in (Shuffled(8), PK(4, 2)):
        forwards = [sampler.step(step, labels=labels, seed=1) for step in range(20)]
        backwards = [sampler.step(step, labels=labels, seed=1) for step in reversed(range(20))][::-1]
        assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
        assert not np.array_equal(forwards[0], sampler.step(0, labels=labels, seed=2))


def test_pk_draws_p_people_with_k_pictures_each() -> None:
    labels = np.repeat(np.arange(6), 5)
    drawn = PK(3, 4).step(0, labels=labels, seed=0)
    assert sorted(Counter(labels[drawn].tolist()).values()) == [4, 4, 4]
    assert len(set(drawn.tolist())) == 12, "no picture twice where there are enough"


def test_pk_repeats_the_pictures_of_people_with_few() -> None:
    labels = np.array([0, 1, 1, 1, 1])
    drawn = PK(2, 4).step(0, labels=labels, seed=0)
    assert Counter(labels[drawn].tolist()) == {0: 4, 1: 4}


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pk_visits_people_evenly(p: int) -> None:
    labels = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
    visits = Counter(
        label for step in range(70) for label in labels[PK(p, 1).step(step, labels=labels, seed=0)].tolist()
    )
    assert set(visits.values()) == {10 * p}
