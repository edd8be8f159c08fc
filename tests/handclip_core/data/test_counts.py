"""The published counts come out of a table of the published structure, and differences are named."""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from handclip_core.data.counts import count_differences, counts
from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.hd import prepare_hd
from handclip_core.data.manifest import Cut, Prepared
from handclip_core.data.splits import leaking_identities, training_rows
from handclip_core.types import HAND_ASPECTS, Aspect

REAL_TABLE = "HANDCLIP_ELEVEN_K_TABLE"
"""Environment variable that names the real HandInfo.csv."""

STRUCTURE = {
    "dorsal right": ((962, 72, (1039, 1043, 1046, 1050)), (1042, 71, (1051,))),
    "dorsal left": ((808, 73, ()), (1061, 73, (1039, 1042, 1043, 1046, 1050, 1051))),
    "palmar right": ((977, 72, (1039, 1043, 1046, 1050, 1051)), (988, 71, ())),
    "palmar left": ((1004, 76, (1039, 1042)), (1023, 75, (1043, 1046, 1050, 1051))),
}
"""Images, identities, and those identities near the cut that lie on this side; for training and test of each aspect."""

# train_all, its ids, train, val, test, its ids, query, gallery, gallery_all
TABLE = {
    "dorsal right": (962, 72, 890, 72, 1042, 71, 971, 71, 290),
    "dorsal left": (808, 73, 735, 73, 1061, 73, 988, 73, 290),
    "palmar right": (977, 72, 905, 72, 988, 71, 917, 71, 290),
    "palmar left": (1004, 76, 928, 76, 1023, 75, 948, 75, 290),
}


def structured_rows() -> Iterator[list[object]]:
    """7,865 rows without accessories of the published structure, and 3,211 with."""
    number = 0
    for aspect, sides in STRUCTURE.items():
        for first_id, (images, people, near) in zip((1, 1100), sides, strict=True):
            identities = [*near, *range(first_id, first_id + people - len(near))]
            for shot in range(images):
                identity = f"{identities[shot % people]:07d}" + (" " if number == 4321 else "")
                yield [identity, 22, "male", "fair", 0, shot % 2, aspect, f"Hand_{number:07d}.jpg", 0]
                number += 1
    for _ in range(3211):
        yield ["0000003", 22, "male", "fair", 1, 0, "dorsal right", f"Hand_{number:07d}.jpg", 0]
        number += 1


def table_of(prepared: Prepared) -> dict[str, tuple[int, ...]]:
    return {aspect: tuple(values.values()) for aspect, values in counts(prepared)["aspects"].items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, module_table: Callable[..., Path]) -> Prepared:
    return prepare_eleven_k(module_table(list(structured_rows())), tmp_path_factory.mktemp("out"))


def test_published_counts_come_out(published: Prepared) -> None:
    assert table_of(published) == TABLE
    assert list(table_of(published)) == list(TABLE)
    assert counts(published)["images"] == 7865
    assert count_differences(published) == ()


def test_people_on_both_sides_are_the_known_ones(published: Prepared) -> None:
    assert leaking_identities(published.manifest) == {f"000{n}" for n in (1039, 1042, 1043, 1046, 1050, 1051)}


def test_training_on_several_aspects_loses_them(published: Prepared) -> None:
    identity = published.manifest["identity"].to_numpy()
    one = set(identity[training_rows(published, [Aspect.DORSAL_RIGHT], which="train_all")])
    assert len(one) == 72
    assert "0001039" in one
    for aspects in (HAND_ASPECTS, HAND_ASPECTS[:2], HAND_ASPECTS[2:]):
        people = set(identity[training_rows(published, aspects, which="train_all")])
        assert not people & leaking_identities(published.manifest)
    rows = training_rows(published, [Aspect.DORSAL_RIGHT, Aspect.PALMAR_LEFT], which="train_all")
    assert len(set(identity[rows])) == 74  # 1..74 of palmar left hold 1..68 of dorsal right; six identities are lost
    assert set(published.manifest.loc[rows, "aspect"]) == {"dorsal right", "palmar left"}


def test_searchs_validation_has_people_of_every_aspect(published: Prepared) -> None:
    for values in counts(published)["search"].values():
        assert 15 <= values["val_ids"] <= 22
        assert values["gallery"] == values["val_ids"]
        assert values["query"] == values["val"] - values["val_ids"]


def test_differences_are_named(published: Prepared) -> None:
    manifest = published.manifest
    trained = manifest.index[(manifest["aspect"] == "dorsal right") & (manifest["subset"] == "train")]
    found = count_differences(replace(published, manifest=manifest.drop(index=trained[0])))
    assert found[0] == "not the published count: usable images: 7864, published 7865"
    assert "not the published count: dorsal right train_all: 961, published 962" in found


def test_no_table_applies_to_other_sources_and_cuts(eleven_k: Callable[..., Path], tmp_path: Path) -> None:
    root = eleven_k([*range(1, 9), *range(1060, 1066)])
    assert count_differences(prepare_eleven_k(root, tmp_path / "a", source="drawn")) == ()
    assert count_differences(prepare_eleven_k(root, tmp_path / "b", cut=Cut.COMMON)) == ()
    (line,) = count_differences(prepare_eleven_k(root, tmp_path / "c"))
    assert line.endswith(" of 7,865 usable images: this is a part of 11k")


def test_published_counts_of_hd_come_out(tmp_path: Path, small_jpeg: Path) -> None:
    base = tmp_path / "HD" / "Original Images"
    sides = (("1-501", range(1, 252), 2407), ("1-501", range(448, 699), 2243), ("502-712", range(502, 715), 1342))
    for folder, people, images in sides:
        (base / folder).mkdir(parents=True, exist_ok=True)
        for shot in range(images):
            suffix = (".jpg", ".JPG", ".Jpg")[shot % 3]
            os.link(small_jpeg, base / folder / f"{people[shot % len(people)]}_{shot}{suffix}")
    prepared = prepare_hd(tmp_path / "HD", tmp_path / "out")
    assert table_of(prepared) == {"unknown": (2407, 251, 2156, 251, 2243, 251, 1992, 1593, 1593)}
    assert counts(prepared)["distractors"] == 1342
    assert count_differences(prepared) == ()
    draw = prepared.protocol.draws["test"][0]
    assert prepared.manifest.loc[list(draw.gallery["unknown"]), "identity"].nunique() == 464


@pytest.mark.skipif(REAL_TABLE not in os.environ, reason=f"{REAL_TABLE} does not name the real HandInfo.csv")
def test_real_table(table_only: Callable[..., Path], tmp_path: Path) -> None:
    with Path(os.environ[REAL_TABLE]).open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    prepared = prepare_eleven_k(table_only(rows, header=[name.strip() for name in header]), tmp_path / "out")
    assert table_of(prepared) == TABLE
    assert count_differences(prepared) == ()
