"""Data that come cut already are read as they are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data.folder import prepare_folder
from handclip_core.data.leaks import check_leaks
from handclip_core.data.ready_splits import Place, place_of
from handclip_core.errors import InputError

Draw = Callable[..., Image.Image]


@pytest.fixture
def cut(tmp_path: Path, make_image: Draw) -> Path:
    """Eight people to train on, four to test, two draws with a stranger, and copies as scripts make them."""
    root = tmp_path / "cut"
    for who in range(12):
        split = "train_all" if who < 8 else "test"
        (root / split / f"p{who}").mkdir(parents=True)
        for shot in range(3):
            make_image(10 * who + shot).save(root / split / f"p{who}" / f"{shot}.png")
    for who in range(8):
        for shot in range(3):
            copy(root, "train_all", "val" if shot == 0 else "train", f"p{who}", shot)
    for draw in range(2):
        for who in range(8, 12):
            for shot in range(3):
                copy(root, "test", f"{'gallery' if shot == draw else 'query'}{draw}", f"p{who}", shot)
                if shot == draw:
                    copy(root, "test", f"gallery{draw}_all", f"p{who}", shot)
        (root / f"gallery{draw}_all" / "stranger").mkdir()
        make_image(999).save(root / f"gallery{draw}_all" / "stranger" / "0.png")
    return root


def copy(root: Path, source: str, split: str, who: str, shot: int) -> None:
    (root / split / who).mkdir(parents=True, exist_ok=True)
    shutil.copy(root / source / who / f"{shot}.png", root / split / who)


def test_every_image_once_with_the_splits_and_draws_of_its_owner(cut: Path, tmp_path: Path) -> None:
    prepared = prepare_folder(cut, tmp_path / "out")
    manifest = prepared.manifest
    assert len(manifest) == 37
    assert manifest.groupby("subset").size().to_dict() == {"distractor": 1, "test": 12, "train": 12, "val": 12}
    assert set(manifest.loc[manifest["subset"].isin(["train", "val"]), "identity"]) == {f"p{who}" for who in range(8)}
    closed = manifest.iloc[list(prepared.protocol.closed_val)]
    assert closed["path"].str.endswith("/0.png").all()
    assert len(closed) == 8
    first, second = prepared.protocol.draws["test"]
    for number, draw in enumerate((first, second)):
        gallery = manifest.iloc[list(draw.gallery["unknown"])]
        assert set(gallery["identity"]) == {"p8", "p9", "p10", "p11", "stranger"}
        assert gallery.loc[gallery["identity"] != "stranger", "path"].str.endswith(f"/{number}.png").all()
        assert len(draw.query["unknown"]) == 8
    check_leaks(prepared)


def test_somebody_on_both_sides_is_found(cut: Path, tmp_path: Path) -> None:
    shutil.copytree(cut / "train_all" / "p0", cut / "test" / "p0")
    with pytest.raises(InputError, match="identity p0 is in train and in test"):
        check_leaks(prepare_folder(cut, tmp_path / "out"))


def test_validation_people_of_their_own_stay(cut: Path, tmp_path: Path) -> None:
    shutil.rmtree(cut / "train_all")
    shutil.rmtree(cut / "val")
    (cut / "val").mkdir()
    for who in range(4):
        (cut / "train" / f"p{who}").rename(cut / "val" / f"p{who}")
    manifest = prepare_folder(cut, tmp_path / "out").manifest
    assert set(manifest.loc[manifest["subset"] == "val", "identity"]) == {"p0", "p1", "p2", "p3"}


def test_an_image_under_two_aspects_counts_once_and_is_told(cut: Path, tmp_path: Path) -> None:
    root = tmp_path / "by-aspect"
    shutil.copytree(cut, root / "dorsal_r")
    (root / "palmar_r" / "test" / "p9").mkdir(parents=True)
    shutil.copy(root / "dorsal_r" / "test" / "p9" / "2.png", root / "palmar_r" / "test" / "p9" / "2.png")
    (root / "palmar_r" / "gallery0_all" / "p9").mkdir(parents=True)
    shutil.copy(root / "dorsal_r" / "test" / "p9" / "1.png", root / "palmar_r" / "gallery0_all" / "p9" / "1.png")
    prepared = prepare_folder(root, tmp_path / "out")
    assert len(prepared.manifest) == 37
    told = [line for line in prepared.protocol.warnings if "several" in line]
    assert len(told) == 1
    assert "aspects of 1 images that stand under several (first: " in told[0]
    assert "/test/p9/2.png: dorsal right, palmar right)" in told[0]


def test_aspects_as_the_published_scripts_name_them_share_no_shifted_copies(cut: Path, tmp_path: Path) -> None:
    root = tmp_path / "published"
    folders = [root / f"train_val_test_split_{aspect}" for aspect in ("dorsal_r", "palmar_l")]
    for folder in folders:
        shutil.copytree(cut, folder)
    for image in folders[1].rglob("*.png"):
        Image.open(image).rotate(180).save(image)
    for own, other in (folders, folders[::-1]):
        for image in (other / "gallery0").glob("*/*.png"):
            into = own / "gallery0_all" / f"11{image.parent.name}"
            into.mkdir()
            shutil.copy(image, into)
    prepared = prepare_folder(root, tmp_path / "out")
    assert set(prepared.manifest["aspect"]) == {"dorsal right", "palmar left"}
    assert prepared.manifest.groupby("subset").size().to_dict() == {
        "distractor": 2, "test": 24, "train": 24, "val": 24,
    }  # fmt: skip
    assert any("left out: 8 copies of test images under other identities" in w for w in prepared.protocol.warnings)
    first = prepared.protocol.draws["test"][0]
    assert {aspect: len(rows) for aspect, rows in first.gallery.items()} == {"dorsal right": 5, "palmar left": 5}


def test_flat_names_below_splits(cut: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for split, folder in (("train_all", "bounding_box_train"), ("gallery0", "gallery"), ("query0", "query")):
        (flat / folder).mkdir(parents=True)
        for image in (cut / split).glob("*/*.png"):
            shutil.copy(image, flat / folder / f"{image.parent.name[1:]}_{image.name}")
    prepared = prepare_folder(flat, tmp_path / "out", name_pattern=r"(?P<identity>\d+)_")
    assert len(prepared.manifest) == 36
    assert len(prepared.protocol.draws["test"]) == 1
    with pytest.raises(InputError, match="names that tell need --name-pattern"):
        prepare_folder(flat, tmp_path / "no")


def test_a_draw_without_any_match_is_refused(cut: Path, tmp_path: Path) -> None:
    shutil.rmtree(cut / "gallery1")
    for who in range(8, 12):
        (cut / "gallery1" / f"other{who}").mkdir(parents=True)
        shutil.copy(cut / "test" / f"p{who}" / "1.png", cut / "gallery1" / f"other{who}" / "0.png")
    with pytest.raises(InputError, match="query and gallery of draw 1: no query has a match"):
        prepare_folder(cut, tmp_path / "out")


def test_folders_that_say_what_they_are() -> None:
    assert place_of("train_all/p/0.jpg") == (Place("train"), ("p", "0.jpg"))
    assert place_of("gallery3_all/p/0.jpg") == (Place("gallery_all", 3), ("p", "0.jpg"))
    assert place_of("gallery_all7/p/0.jpg") == (Place("gallery_all", 7), ("p", "0.jpg"))
    assert place_of("dorsal_r/query0/p/0.jpg") == (Place("query", 0, "dorsal right"), ("p", "0.jpg"))
    assert place_of("Palmar Left/test/p/0.jpg") == (Place("test", 0, "palmar left"), ("p", "0.jpg"))
    assert place_of("train_val_test_split_dorsal_l/gallery_1/p/0.jpg") == (
        Place("gallery", 1, "dorsal left"),
        ("p", "0.jpg"),
    )
    assert place_of("Validation/p/0.jpg") == (Place("val"), ("p", "0.jpg"))
    assert place_of("test/query-2/p/s1/0.jpg") == (Place("query", 2), ("p", "s1", "0.jpg"))
    assert place_of("val/gallery/p/0.jpg") == (Place("val"), ("p", "0.jpg"))
    assert place_of("train/palmar-left/p/0.jpg") == (Place("train", 0, "palmar left"), ("p", "0.jpg"))
    assert place_of("p/0.jpg") is None
    assert place_of("people/test/0.jpg") is None
