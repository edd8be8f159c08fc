"""Difficulty from metadata and from distances, against slow loops and hand-made cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handclip_core.data.difficulty import as_ranks, centre_distance, difficulty, metadata_difficulty


def table(**columns: list[object]) -> pd.DataFrame:
    number = len(next(iter(columns.values())))
    defaults: dict[str, list[object]] = {
        "identity": ["a"] * number,
        "aspect": ["dorsal right"] * number,
        "accessories": [0] * number,
        "nail_polish": [0] * number,
        "irregularities": [0] * number,
    }
    made = pd.DataFrame(defaults | columns)
    for name in ("accessories", "nail_polish", "irregularities"):
        made[name] = made[name].astype("Int64")
    return made


def test_each_hindrance_adds_a_quarter() -> None:
    base, *others = metadata_difficulty(
        table(accessories=[0, 1, 0, 0, 1], nail_polish=[0, 0, 1, 0, 1], irregularities=[0, 0, 0, 1, 1])
    )
    assert others == pytest.approx([base + 0.25] * 3 + [base + 0.75])
    assert 0 <= base <= 0.25


def test_nail_polish_hinders_only_where_nails_are_seen() -> None:
    palm, polished, back = metadata_difficulty(
        table(aspect=["palmar left", "palmar left", "dorsal left"], nail_polish=[0, 1, 1])
    )
    assert palm == polished
    assert back > palm + 0.25


def test_aspects_are_ordered_as_published_and_unknown_counts_as_the_mean() -> None:
    aspects: list[object] = ["palmar right", "dorsal right", "unknown", "palmar left", "dorsal left"]
    values = metadata_difficulty(table(aspect=aspects))
    assert (np.diff(values) > 0).all()
    assert values[2] == pytest.approx(np.mean(np.delete(values, 2)))


def test_unknown_metadata_add_nothing() -> None:
    unknown = table(accessories=[pd.NA], nail_polish=[pd.NA], irregularities=[pd.NA])
    assert metadata_difficulty(unknown) == metadata_difficulty(table(accessories=[0]))


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.sampled_from("abcde"), min_size=2, max_size=30).filter(lambda g: len(set(g)) < len(g)),
    seed=st.integers(0, 1000),
)
def test_distance_to_the_others_is_that_of_a_slow_loop(groups: list[str], seed: int) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(len(groups), 6)) * 3
    unit = [row / np.linalg.norm(row) for row in embeddings]
    slow: list[float] = []
    for i, own in enumerate(groups):
        others = [unit[j] for j, group in enumerate(groups) if group == own and j != i]
        centre = sum(others, np.zeros(6))
        slow.append(1 - float(unit[i] @ centre) / float(np.linalg.norm(centre)) if others else np.nan)
    expected = np.where(np.isnan(slow), np.nanmedian(slow), slow)
    assert centre_distance(embeddings, groups) == pytest.approx(expected, abs=1e-9)


def test_the_odd_one_out_is_the_hardest() -> None:
    embeddings = np.array([[1, 0.1], [1, 0], [1, -0.1], [-1, 0.2], [0, 1]])
    distance = centre_distance(embeddings, ["a", "a", "a", "a", "b"])
    assert int(np.argmax(distance)) == 3
    assert distance[3] > 1.9
    assert distance[4] == pytest.approx(np.median(distance[:4]))


def test_without_any_group_of_two_everything_is_equally_far() -> None:
    assert centre_distance(np.eye(3), ["a", "b", "c"]).tolist() == [1, 1, 1]


def test_ranks_run_from_0_to_1_and_ties_share() -> None:
    assert as_ranks(np.array([5.0, 1.0, 9.0])).tolist() == [0.5, 0, 1]
    assert as_ranks(np.array([2.0, 1.0, 2.0])).tolist() == [0.75, 0, 0.75]
    assert as_ranks(np.array([3.0, 3.0])).tolist() == [0.5, 0.5]
    assert as_ranks(np.array([3.0])).tolist() == [0.5]


def test_both_sources_are_weighed() -> None:
    rows = table(identity=["a", "a", "a"], accessories=[1, 0, 0])
    embeddings = np.array([[1, 0.0], [1, 0.1], [0, 1]])
    assert difficulty(rows).tolist() == [1, 0.25, 0.25]
    by_distance = as_ranks(centre_distance(embeddings, ["a", "a", "a"]))
    assert difficulty(rows, embeddings, metadata_share=0) == pytest.approx(by_distance)
    assert difficulty(rows, embeddings, metadata_share=1).tolist() == [1, 0.25, 0.25]
    assert int(np.argmax(by_distance)) == 2
