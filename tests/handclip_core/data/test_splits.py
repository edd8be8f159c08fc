"""Cuts, validation identities and draws: who may meet whom, and what a seed fixes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handclip_core.data.splits import (
    NUM_GALLERY_SPLITS,
    choose_closed_val,
    choose_val,
    generator,
    halves,
    leaking_identities,
    make_gallery_splits,
)
from handclip_core.errors import InputError

ASPECTS = ("dorsal left", "dorsal right", "palmar left", "palmar right")


def table_of(entries: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    """Rows of (identity, aspect, subset, number of images)."""
    rows = [(identity, aspect, subset) for identity, aspect, subset, number in entries for _ in range(number)]
    table = pd.DataFrame(rows, columns=["identity", "aspect", "subset"])
    table["session"] = ""
    table["path"] = [f"{number:05d}.jpg" for number in range(len(table))]
    return table


def people(number: int, *, subset: str = "train", images: int = 3, prefix: str = "p") -> pd.DataFrame:
    return table_of([(f"{prefix}{i:03d}", aspect, subset, images) for i in range(number) for aspect in ASPECTS])


@st.composite
def collections(draw: st.DrawFn) -> pd.DataFrame:
    """Identities with any number of images of any aspects, on either side in each."""
    entries = []
    for person in range(draw(st.integers(4, 30))):
        for aspect in draw(st.sets(st.sampled_from(ASPECTS), min_size=1)):
            subset = draw(st.sampled_from(["train", "train", "train", "test"]))
            entries.append((f"p{person:03d}", aspect, subset, draw(st.integers(1, 5))))
    return table_of(entries)


@settings(max_examples=80)
@given(table=collections(), seed=st.integers(0, 99))
def test_validation_people_are_never_tested_and_always_have_a_match(table: pd.DataFrame, seed: int) -> None:
    trained = set(table.loc[table["subset"] == "train", "identity"])
    tested = set(table.loc[table["subset"] == "test", "identity"])
    try:
        chosen = choose_val(table, seed=seed)
    except InputError:
        fit = table[table["identity"].isin(trained - tested)].groupby(["identity", "aspect"]).size()
        smallest = fit.groupby("identity").min()
        assert len(smallest) < 4 or (smallest >= 2).sum() < 2
        return
    assert chosen <= trained - tested
    assert 1 <= len(chosen) <= len(trained - tested) // 2
    own = table[table["identity"].isin(chosen)]
    assert own.groupby(["identity", "aspect"]).size().min() >= 2


@settings(max_examples=25)
@given(table=collections(), seed=st.integers(0, 99))
def test_draws_partition_the_images_of_each_aspect(table: pd.DataFrame, seed: int) -> None:
    test = table[table["subset"] == "test"]
    if test.groupby(["identity", "aspect"]).size().max() < 2 or test.empty:
        with pytest.raises(InputError, match="no query has a match"):
            make_gallery_splits(table, "test", seed=seed)
        return
    draws = make_gallery_splits(table, "test", seed=seed)
    assert len(draws) == NUM_GALLERY_SPLITS
    for draw in draws:
        for aspect, rows in test.groupby("aspect"):
            gallery, query = draw.gallery[str(aspect)], draw.query[str(aspect)]
            assert sorted([*gallery, *query]) == sorted(rows.index)
            assert sorted(table.loc[list(gallery), "identity"]) == sorted(set(rows["identity"]))


def test_validation_takes_its_share_of_every_aspect() -> None:
    some = table_of([(f"s{i:03d}", "dorsal left", "train", 3) for i in range(40)])
    table = pd.concat([people(40), some], ignore_index=True)
    for seed in range(20):
        chosen = choose_val(table, seed=seed)
        taken = table[table["identity"].isin(chosen)].groupby("aspect")["identity"].nunique()
        assert taken.to_dict() == {"dorsal left": 20, "dorsal right": 10, "palmar left": 10, "palmar right": 10}


def test_who_validates_depends_on_the_seed_alone() -> None:
    table = people(40)
    shuffled = table.sample(frac=1, random_state=0)
    assert choose_val(table, seed=5) == choose_val(shuffled, seed=5)
    assert len({choose_val(table, seed=seed) for seed in range(5)}) == 5


def test_every_person_can_be_chosen() -> None:
    table = people(12)
    assert frozenset.union(*(choose_val(table, seed=seed) for seed in range(40))) == set(table["identity"])


def test_small_data_validate_with_as_many_as_half_of_the_people() -> None:
    assert len(choose_val(people(10), seed=0)) == 5
    assert len(choose_val(people(16), seed=0)) == 8
    assert len(choose_val(people(60), seed=0)) == 15


def test_people_with_one_image_do_not_validate() -> None:
    table = pd.concat([people(6, prefix="a"), people(30, images=1, prefix="b")], ignore_index=True)
    assert {identity[0] for identity in choose_val(table, seed=0)} == {"a"}


def test_nobody_left_to_validate_is_refused() -> None:
    for table in (people(3), people(20, images=1), people(20, subset="test")):
        with pytest.raises(InputError, match="no validation split with a gallery match"):
            choose_val(table, seed=0)


def test_leaking_people_are_those_on_both_sides() -> None:
    table = table_of(
        [("a", "dorsal left", "train", 2), ("a", "dorsal right", "test", 2), ("b", "dorsal left", "train", 2),
         ("c", "dorsal right", "test", 2), ("d", "dorsal right", "distractor", 2)]
    )  # fmt: skip
    assert leaking_identities(table) == {"a"}


def test_published_validation_has_one_image_of_each_person_and_aspect() -> None:
    table = pd.concat([people(5), people(4, subset="val", prefix="v"), people(3, subset="test", prefix="t")])
    table = table.reset_index(drop=True)
    chosen = table.loc[list(choose_closed_val(table, seed=0))]
    assert chosen.groupby(["identity", "aspect"]).size().tolist() == [1] * 9 * 4
    assert not chosen["identity"].str.startswith("t").any()


def test_draws_differ_from_each_other_and_follow_the_seed() -> None:
    table = people(10, subset="test", images=6)
    draws = make_gallery_splits(table, "test", seed=1)
    assert len({str(draw.gallery) for draw in draws}) == NUM_GALLERY_SPLITS
    assert draws == make_gallery_splits(table, "test", seed=1)
    assert draws != make_gallery_splits(table, "test", seed=2)


def test_each_image_is_as_likely_to_be_enrolled() -> None:
    table = table_of([("a", "dorsal left", "test", 4), ("b", "dorsal left", "test", 2)])
    enrolled = [
        draw.gallery["dorsal left"] for seed in range(100) for draw in make_gallery_splits(table, "test", seed=seed)
    ]
    share = np.bincount(np.concatenate(enrolled), minlength=6) / len(enrolled)
    assert share[:4] == pytest.approx([0.25] * 4, abs=0.05)  # 1,000 draws: one sd is 0.014
    assert share[4:] == pytest.approx([0.5] * 2, abs=0.06)


def test_distractors_join_test_galleries_only() -> None:
    parts = [people(4, subset="test", prefix="t"), people(3, subset="val", prefix="v"), people(2, subset="distractor")]
    table = pd.concat(parts, ignore_index=True)
    strangers = set(table.index[table["subset"] == "distractor"])
    for draw in make_gallery_splits(table, "test", seed=0):
        assert strangers <= {row for rows in draw.gallery.values() for row in rows}
        assert not strangers & {row for rows in draw.query.values() for row in rows}
    for draw in make_gallery_splits(table, "val", seed=0):
        assert not strangers & {row for rows in draw.gallery.values() for row in rows}


def test_halves_cuts_off_the_end() -> None:
    assert halves("abcdef") == {"d", "e", "f"}
    assert halves("abcde") == {"d", "e"}
    assert halves("abcde", test_share=0.2) == {"e"}
    assert halves("ab", test_share=0.01) == {"b"}


def test_each_purpose_has_a_generator_of_its_own() -> None:
    first = generator(0, "val 0", "dorsal left").integers(0, 2**31)
    assert first == generator(0, "val 0", "dorsal left").integers(0, 2**31)
    assert first != generator(0, "val 1", "dorsal left").integers(0, 2**31)
    assert first != generator(1, "val 0", "dorsal left").integers(0, 2**31)
