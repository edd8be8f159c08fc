"""Difficulty from metadata and from distances, against slow loops and hand-made cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handclip_core.data.difficulty import centre_distance, metadata_difficulty, prototype_loss


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


@settings(max_examples=60)
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


def test_prototype_loss_is_the_loop_over_class_means() -> None:
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(9, 4)), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = []
    for i in range(9):
        logits = []
        for label in range(3):
            members = [j for j in range(9) if labels[j] == label and j != i]
            mean = unit[members].mean(axis=0)
            logits.append(unit[i] @ mean / np.linalg.norm(mean) / 0.05)
        expected.append(np.log(np.exp(np.array(logits) - max(logits)).sum()) + max(logits) - logits[labels[i]])
    assert prototype_loss(embeddings, labels) == pytest.approx(np.array(expected))


def test_a_image_alone_in_its_class_is_neither_easy_nor_hard() -> None:
    embeddings = np.random.default_rng(1).normal(size=(5, 3))
    found = prototype_loss(embeddings, np.array([0, 0, 1, 1, 2]))
    assert found[4] == np.median(found[:4])
    assert prototype_loss(embeddings[:1], np.array([0])).tolist() == [0.0]
