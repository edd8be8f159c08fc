"""A user's own images, by folders or by a table."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from handclip_core.data.folder import prepare_folder
from handclip_core.data.leaks import check_leaks
from handclip_core.errors import InputError

Write = Callable[..., Path]
PEOPLE = {f"p{i:02d}": 3 for i in range(12)}


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(root: Path, out: Path, reason: str, table: Path | None = None, aspect_column: str | None = None) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        prepare_folder(root, out, table=table, aspect_column=aspect_column)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_one_folder_a_person(folders: Write, tmp_path: Path) -> None:
    prepared = prepare_folder(folders(PEOPLE), tmp_path / "out")
    manifest = prepared.manifest
    assert len(manifest) == 36
    assert (manifest["identity"] == manifest["path"].str.split("/").str[0]).all()
    assert set(manifest["aspect"]) == {"unknown"}
    assert manifest.groupby("identity")["subset"].nunique().eq(1).all()
    assert manifest.groupby("subset")["identity"].nunique().to_dict() == {"train": 3, "val": 3, "test": 6}
    assert manifest["age"].isna().all()
    check_leaks(prepared)


def test_the_seed_decides_who_is_tested(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)

    def tested(seed: int) -> frozenset[str]:
        manifest = prepare_folder(root, tmp_path / "out", seed=seed).manifest
        return frozenset(manifest.loc[manifest["subset"] == "test", "identity"])

    assert tested(1) == tested(1)
    assert len({tested(seed) for seed in range(5)}) == 5


def test_share_of_test_people(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    manifest = prepare_folder(root, tmp_path / "out", test_share=0.25).manifest
    assert manifest.loc[manifest["subset"] == "test", "identity"].nunique() == 3
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match=r"test_share .*between 0 and 1"):
            prepare_folder(root, tmp_path / "none", test_share=share)


def test_what_is_no_image_of_a_person_is_told(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    (root / "readme.txt").touch()
    (root / "p00" / "notes.txt").touch()
    (root / "p00" / "deeper").mkdir()
    shutil.copy(root / "p01" / "0.png", root / "stray.png")
    (root / ".hidden").mkdir()
    (root / "p00" / ".DS_Store").touch()
    prepared = prepare_folder(root, tmp_path / "out")
    assert prepared.protocol.notes == ("4 entries are no <identity>/<image> (first: p00/deeper)",)
    assert len(prepared.manifest) == 36


def test_links_that_leave_or_loop_are_refused_by_name(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    shutil.copytree(root / "p01", tmp_path / "elsewhere")
    (root / "p99").symlink_to(tmp_path / "elsewhere")
    (root / "p00" / "loop.jpg").symlink_to(root / "p00" / "loop.jpg")
    (root / "p00" / "self").symlink_to(root / "p00")
    refused(root, tmp_path / "out", r"p00/loop.jpg: .*loop.*p99/0.png: is a link that leaves the data folder")
    prepared = prepare_folder(root, tmp_path / "out", skip_bad=True)
    assert len(prepared.protocol.skipped) == 4
    assert len(prepared.manifest) == 36


def test_names_that_are_not_text_are_refused(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    shutil.copy(root / "p00" / "0.png", root / "p00" / b"\xff\xfe.png".decode("utf-8", "surrogateescape"))
    shutil.copy(root / "p00" / "1.png", root / "p00" / "new\nline.png")
    with pytest.raises(InputError, match="name that is not text"):
        prepare_folder(root, tmp_path / "out")
    assert len(prepare_folder(root, tmp_path / "out", skip_bad=True).manifest) == 36


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", tmp_path / "out", "none: no such folder; name the folder that holds the images")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "out", "empty: empty folder")
    (tmp_path / "empty" / "person").mkdir()
    refused(tmp_path / "empty", tmp_path / "out", "no image in it; expected <identity>/<image>")


def test_a_single_bad_image_leaves_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "0.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"no usable image \(a/0.jpg: not an image"):
        prepare_folder(tmp_path / "root", tmp_path / "out", skip_bad=True)


def test_a_table_with_columns_of_any_name(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    sides = ("Dorsal Left", "palmar right", "")
    lines = [f"{identity}/{shot}.png, {identity.upper()} ,{sides[shot]}" for identity in PEOPLE for shot in range(3)]
    table = write_lines(tmp_path / "list.csv", ["file,who,side", *lines, lines[0]])
    with pytest.raises(InputError, match="no validation split with a gallery match"):
        prepare_folder(
            root, tmp_path / "no", table=table, path_column="file", identity_column="who", aspect_column="side"
        )
    prepared = prepare_folder(root, tmp_path / "out", table=table, path_column="file", identity_column="who")
    assert set(prepared.manifest["identity"]) == {identity.upper() for identity in PEOPLE}
    assert set(prepared.manifest["aspect"]) == {"unknown"}
    assert len(prepared.manifest) == 36


def test_a_table_with_aspects(folders: Write, tmp_path: Path) -> None:
    root = folders(dict.fromkeys(PEOPLE, 4))
    lines = [
        f"{identity}/{shot}.png,{identity},{('Dorsal Left', '')[shot % 2]}" for identity in PEOPLE for shot in range(4)
    ]
    table = write_lines(tmp_path / "list.csv", ["path,identity,side", *lines, lines[0]])
    prepared = prepare_folder(root, tmp_path / "out", table=table, aspect_column="side")
    assert prepared.manifest["aspect"].value_counts().to_dict() == {"dorsal left": 24, "unknown": 24}
    assert prepared.protocol.notes == ("list.csv: 1 rows are repeated and count once",)
    assert set(prepared.protocol.draws["test"][0].gallery) == {"dorsal left", "unknown"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("p00/0.png,p00,sideways", "list.csv line 2: unknown aspect 'sideways' .one of dorsal right"),
        (",p00,palmar left", "list.csv line 2: no path"),
        ("p00/0.png,,palmar left", "list.csv line 2: p00/0.png has no identity"),
        ("p00/1.png,p05,palmar left", "list.csv line 2: p00/1.png is described twice, differently"),
        ("p00/9.png,p00,palmar left", "list.csv line 2: p00/9.png no such file"),
        ("../list.csv,p00,palmar left", r"list.csv line 2: \.\./list.csv is no path inside"),
    ],
)
def test_bad_rows_of_a_table(folders: Write, tmp_path: Path, line: str, reason: str) -> None:
    root = folders(PEOPLE)
    lines = [f"{identity}/{shot}.png,{identity},palmar left" for identity in PEOPLE for shot in range(3)]
    table = write_lines(tmp_path / "list.csv", ["path,identity,side", line, *lines[1:]])
    refused(root, tmp_path / "out", reason, table, "side")
    prepared = prepare_folder(root, tmp_path / "out", table=table, aspect_column="side", skip_bad=True)
    assert prepared.protocol.skipped[0].startswith("list.csv line 2")


def test_columns_must_be_there_and_differ(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    table = write_lines(tmp_path / "list.csv", ["path,who", "p00/0.png,p00"])
    refused(root, tmp_path / "out", "list.csv: no column 'identity'; it has path, who", table)
    refused(root, tmp_path / "out", "must be different", table, "path")
