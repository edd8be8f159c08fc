"""The same identity, file or image on both sides of a split is refused, whatever way it came there."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data import leaks
from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.folder import prepare_folder
from handclip_core.data.leaks import check_leaks, find_leaks
from handclip_core.data.manifest import Prepared, load_prepared
from handclip_core.errors import InputError

Write = Callable[..., Path]
PEOPLE = {f"p{i:02d}": 4 for i in range(12)}


def first_of(prepared: Prepared, subset: str) -> str:
    return str(prepared.manifest.loc[prepared.manifest["subset"] == subset, "path"].iloc[0])


@pytest.fixture
def clean(folders: Write, tmp_path: Path) -> Prepared:
    return prepare_folder(folders(PEOPLE), tmp_path / "clean")


def again(prepared: Prepared, tmp_path: Path, *, skip_bad: bool = False) -> Prepared:
    return prepare_folder(prepared.root, tmp_path / "again", skip_bad=skip_bad)


def copy_resaved(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.resize((80, 60)).save(target, "JPEG", quality=70)


def copy_in_a_comment(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        image.save(target, "JPEG", quality=95, comment="other bytes")


def link_hard(source: Path, target: Path) -> None:
    os.link(source, target)


def link_softly(source: Path, target: Path) -> None:
    target.symlink_to(source)


def copy_bytes(source: Path, target: Path) -> None:
    shutil.copy(source, target)


def test_clean_data_pass(clean: Prepared) -> None:
    assert find_leaks(clean) == []
    check_leaks(clean)


@pytest.mark.parametrize("sides", [("train", "test"), ("val", "test"), ("train", "val")])
@pytest.mark.parametrize(
    ("way", "what"),
    [
        (copy_bytes, "the same content"),
        (link_hard, "the same file"),
        (link_softly, "the same file"),
        (copy_resaved, "the same image"),
        (copy_in_a_comment, "the same image"),
    ],
)
def test_a_image_on_both_sides_is_refused_with_both_names(
    clean: Prepared, tmp_path: Path, sides: tuple[str, str], way: Callable[[Path, Path], None], what: str
) -> None:
    one, other = (first_of(clean, side) for side in sides)
    target = clean.root / Path(other).parent / "copy.jpg"
    way(clean.root / one, target)
    spoilt = again(clean, tmp_path)
    with pytest.raises(InputError, match=what) as caught:
        check_leaks(spoilt)
    assert one in str(caught.value)
    assert str(target.relative_to(clean.root)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", [copy_bytes, link_hard, link_softly, copy_resaved])
def test_skip_bad_leaves_out_what_two_people_share(
    clean: Prepared, tmp_path: Path, way: Callable[[Path, Path], None]
) -> None:
    one, other = first_of(clean, "train"), first_of(clean, "test")
    way(clean.root / one, clean.root / Path(other).parent / "copy.jpg")
    mended = again(clean, tmp_path, skip_bad=True)
    check_leaks(mended)
    assert len(mended.manifest) == len(clean.manifest) - 1  # the copy came on top, the original goes too
    assert len(mended.protocol.skipped) == 2
    assert all("under another identity" in line for line in mended.protocol.skipped)


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_person_on_both_sides_is_refused(clean: Prepared, one: str, other: str) -> None:
    manifest = clean.manifest.copy()
    row = manifest.index[manifest["subset"] == one][0]
    manifest.loc[row, "subset"] = other
    identity = manifest.loc[row, "identity"]
    with pytest.raises(InputError, match=f"identity {identity} is in {one} and in {other}"):
        check_leaks(replace(clean, manifest=manifest))


def test_known_overlap_of_the_published_cut_is_no_leak_but_others_are(
    eleven_k: Callable[..., Path], tmp_path: Path
) -> None:
    prepared = prepare_eleven_k(eleven_k([*range(1, 9), 1039, 1043, *range(1060, 1066)]), tmp_path / "out")
    check_leaks(prepared)
    manifest = prepared.manifest.copy()
    person = manifest["identity"].eq("0001039") & manifest["aspect"].eq("dorsal right")
    manifest.loc[manifest.index[person][0], "subset"] = "test"
    with pytest.raises(InputError, match="identity 0001039 is in train and in test of dorsal right"):
        check_leaks(replace(prepared, manifest=manifest))
    manifest = prepared.manifest.copy()
    manifest.loc[manifest["identity"].eq("0001039") & manifest["subset"].eq("train"), "subset"] = "val"
    with pytest.raises(InputError, match="identity 0001039 is in val and in test"):
        check_leaks(replace(prepared, manifest=manifest))


def test_a_clean_verdict_is_kept_for_this_manifest_only(clean: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    check_leaks(clean)
    loaded = load_prepared(clean.folder)

    def fail(_: Prepared) -> list[str]:
        raise AssertionError("looked again")

    monkeypatch.setattr(leaks, "find_leaks", fail)
    check_leaks(loaded)
    manifest = clean.manifest.copy()
    manifest.loc[0, "subset"] = "test" if manifest.loc[0, "subset"] != "test" else "train"
    with pytest.raises(AssertionError, match="looked again"):
        check_leaks(replace(clean, manifest=manifest))
    verdict = clean.folder / "leaks.json"
    for damaged in ("", "[]", json.dumps(json.loads(verdict.read_text(encoding="utf-8")) | {"version": 0})):
        verdict.write_text(damaged, encoding="utf-8")
        with pytest.raises(AssertionError, match="looked again"):
            check_leaks(clean)


def test_a_refusal_is_not_kept(clean: Prepared, tmp_path: Path) -> None:
    shutil.copy(clean.root / first_of(clean, "train"), clean.root / Path(first_of(clean, "test")).parent / "x.png")
    spoilt = again(clean, tmp_path)
    for _ in range(2):
        with pytest.raises(InputError, match="leaks between"):
            check_leaks(spoilt)


def test_many_leaks_are_counted_and_the_first_named(clean: Prepared, tmp_path: Path) -> None:
    tested = clean.root / Path(first_of(clean, "test")).parent
    trained = clean.manifest.loc[clean.manifest["subset"] == "train", "path"]
    for number, path in enumerate(trained):
        shutil.copy(clean.root / path, tested / f"copy{number}.png")
    with pytest.raises(InputError, match=rf"{len(trained)} leaks .*; and {len(trained) - 10} more\."):
        check_leaks(again(clean, tmp_path))


def test_a_image_that_is_gone_still_counts_by_its_content(clean: Prepared, tmp_path: Path) -> None:
    one, other = first_of(clean, "train"), first_of(clean, "test")
    shutil.copy(clean.root / one, clean.root / Path(other).parent / "copy.png")
    spoilt = again(clean, tmp_path)
    (clean.root / one).unlink()
    with pytest.raises(InputError, match="the same content"):
        check_leaks(spoilt)
