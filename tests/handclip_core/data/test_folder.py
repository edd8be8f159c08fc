"""A user's own images, by folders or by a table."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data.folder import NO_SESSION, prepare_folder
from handclip_core.data.leaks import check_leaks
from handclip_core.data.manifest import load_prepared
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
    (root / "p00" / "deeper" / "down").mkdir(parents=True)
    shutil.copy(root / "p01" / "1.png", root / "p00" / "deeper" / "0.png")
    shutil.copy(root / "p01" / "2.png", root / "p00" / "deeper" / "down" / "0.png")
    shutil.copy(root / "p01" / "0.png", root / "stray.png")
    (root / ".hidden").mkdir()
    (root / "p00" / ".DS_Store").touch()
    prepared = prepare_folder(root, tmp_path / "out")
    assert prepared.protocol.notes == ("2 files are no images by their name (first: p00/notes.txt)", NO_SESSION)
    assert prepared.protocol.warnings == (
        "left out: 1 images lie in no identity's folder (first: stray.png); move them into one",
        "left out: 2 images lie deeper than <identity>/<image> (first: p00/deeper/0.png); move them up, or give every "
        "image a folder of its session",
    )
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
    refused(tmp_path / "empty", tmp_path / "out", "no image at <identity>/<image> or <identity>/<session>/<image>")


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
    assert not any("no row" in note for note in prepared.protocol.notes)


def test_images_that_a_table_does_not_name_are_counted(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    lines = [f"{identity}/{shot}.png,{identity}" for identity in PEOPLE for shot in (1, 2)]
    table = write_lines(tmp_path / "list.csv", ["path,identity", *lines])
    notes = prepare_folder(root, tmp_path / "out", table=table).protocol.notes
    assert notes == ("list.csv: 12 images of the folder have no row (first: p00/0.png)", NO_SESSION)
    (root / "p00" / "0.png").rename(root / "p00" / "0\n.png")
    told = prepare_folder(root, tmp_path / "out", table=table).protocol.notes[0]
    assert told.endswith("(first: p00/0\\n.png)")


def test_a_table_with_aspects(folders: Write, tmp_path: Path) -> None:
    root = folders(dict.fromkeys(PEOPLE, 4))
    lines = [
        f"{identity}/{shot}.png,{identity},{('Dorsal Left', '')[shot % 2]}" for identity in PEOPLE for shot in range(4)
    ]
    table = write_lines(tmp_path / "list.csv", ["path,identity,side", *lines, lines[0]])
    prepared = prepare_folder(root, tmp_path / "out", table=table, aspect_column="side")
    assert prepared.manifest["aspect"].value_counts().to_dict() == {"dorsal left": 24, "unknown": 24}
    assert prepared.protocol.notes == ("list.csv: 1 rows are repeated and count once", NO_SESSION)
    assert set(prepared.protocol.draws["test"][0].gallery) == {"dorsal left", "unknown"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("p00/0.png,p00,sideways", "list.csv line 2: unknown aspect 'sideways' .one of dorsal right"),
        (",p00,palmar left", "list.csv line 2: no path"),
        ("p00/0.png,,palmar left", "list.csv line 2: p00/0.png has no identity"),
        ("p00/1.png,p05,palmar left", r"line 2: p00/1.png is described twice, differently .lines 2 and 3."),
        ("./p00/1.png,p05,palmar left", r"line 2: p00/1.png is described twice, differently .lines 2 and 3."),
        ('"p00/1\n.png",p05,palmar left', r"line 2: p00/1\\n.png holds a line end"),
        ('p00/0.png,"p\nq",palmar left', "line 2: the identity 'p.*' holds a line end"),
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


def test_paths_and_aspects_as_people_write_them(folders: Write, tmp_path: Path) -> None:
    root = folders(PEOPLE)
    ways = ("{root}/{who}/0.png", "{who}\\1.png", "./{who}/2.png")
    lines = [f"{way.format(root=root, who=who)};{who};Dorsal_Right;" for who in PEOPLE for way in ways]
    table = write_lines(
        tmp_path / "list.csv", ["# ours", "path;identity;side", *lines, f"{ways[2].format(who='p00')};p00;dorsal right"]
    )
    prepared = prepare_folder(root, tmp_path / "out", table=table, aspect_column="side")
    assert set(prepared.manifest["path"]) == {f"{who}/{shot}.png" for who in PEOPLE for shot in range(3)}
    assert set(prepared.manifest["aspect"]) == {"dorsal right"}
    assert prepared.protocol.notes[:3] == (
        "list.csv: fields are separated by semicolons",
        "list.csv: 1 lines begin with # and are passed over (first: line 1)",
        "list.csv: 1 rows are repeated and count once",
    )


def test_one_person_in_several_spellings_is_one(folders: Write, tmp_path: Path) -> None:
    root = folders({"Ana": 3, "ana": 2, "007": 2, "7": 3, "7.0": 1, "Zo\u00e9": 2, "Zoe\u0301": 2, **PEOPLE})
    prepared = prepare_folder(root, tmp_path / "out")
    manifest = prepared.manifest
    sizes = manifest.groupby("identity").size()
    assert sizes[["Ana", "7", "Zo\u00e9"]].tolist() == [5, 6, 4]
    assert manifest.groupby("identity")["subset"].nunique().max() == 1
    (told,) = prepared.protocol.warnings
    assert told.startswith("3 identities are written in several ways and count as one person each ('007' =")


def test_sessions_keep_query_and_gallery_apart(tmp_path: Path, make_image: Callable[..., Image.Image]) -> None:
    root, number = tmp_path / "root", 0
    for who in range(12):
        for session in ("monday", "tuesday")[: 1 if who == 3 else 2]:
            (root / f"p{who}" / session).mkdir(parents=True)
            for shot in range(2):
                number += 1
                make_image(number).save(root / f"p{who}" / session / f"{shot}.png")
    prepared = prepare_folder(root, tmp_path / "out")
    manifest = load_prepared(tmp_path / "out").manifest
    assert set(manifest["session"]) == {"monday", "tuesday"}
    assert prepared.protocol.notes == (
        "1 of 12 identities (an aspect) have one session only: query and gallery are from it, "
        "and images of one burst may flatter",
    )
    for draw in (*prepared.protocol.draws["val"], *prepared.protocol.draws["test"]):
        enrolled = {manifest["identity"][row]: manifest["session"][row] for row in draw.gallery["unknown"]}
        for row in draw.query["unknown"]:
            who = manifest["identity"][row]
            assert who == "p3" or manifest["session"][row] != enrolled[who]
        assert {manifest["identity"][row] for row in draw.query["unknown"]} == set(enrolled)


def test_names_that_tell_who_is_shown(tmp_path: Path, make_image: Callable[..., Image.Image]) -> None:
    root = tmp_path / "flat"
    root.mkdir()
    for number in range(32):
        make_image(number).save(root / f"{number // 4:04d}_c{number % 2}s1_{number:06d}.png")
    pattern = r"(?P<identity>\d{4})_(?P<session>c\d)"
    manifest = prepare_folder(root, tmp_path / "out", name_pattern=pattern).manifest
    assert manifest.groupby("identity").size().to_dict() == {f"{who:04d}": 4 for who in range(8)}
    assert set(manifest["session"]) == {"c0", "c1"}
    make_image(99).save(root / "-1_c0s1_99.png")
    for wrong, reason in (
        (pattern, "-1_c0s1_99.png: does not fit --name-pattern"),
        ("(", "--name-pattern '[(]': no regular expression"),
        (r"(\d+)", r"name the groups [(][?]P<identity>"),
        (r"(?P<identity>\d+)(?P<age>_)", "not age"),
    ):
        with pytest.raises(InputError, match=reason):
            prepare_folder(root, tmp_path / "no", name_pattern=wrong)


def test_what_is_left_out_is_said_in_numbers_with_the_mend(
    tmp_path: Path, make_image: Callable[..., Image.Image]
) -> None:
    root = tmp_path / "root"
    (root / "a" / "b" / "c").mkdir(parents=True)
    make_image(1).save(root / "a" / "b" / "c" / "0.png")
    make_image(2).save(root / "flat.png")
    (root / "a" / "x.cr2").touch()
    with pytest.raises(InputError, match=r"1 images lie in no .*first: flat.png.*1 images lie deeper .*1 .cr2 images"):
        prepare_folder(root, tmp_path / "out")


@pytest.mark.parametrize("layout", ["{aspect}/p{who}/{shot}.png", "p{who}/{aspect}/{shot}.png"])
def test_folders_that_are_called_like_aspects_tell_them(
    tmp_path: Path, make_image: Callable[..., Image.Image], layout: str
) -> None:
    root = tmp_path / "root"
    for number in range(32):
        aspect = ("Dorsal_Right", "palmar-l")[number % 2]
        image = root / layout.format(aspect=aspect, who=number // 4, shot=number % 4)
        image.parent.mkdir(parents=True, exist_ok=True)
        make_image(number).save(image)
    manifest = prepare_folder(root, tmp_path / "out").manifest
    assert set(manifest["identity"]) == {f"p{who}" for who in range(8)}
    assert manifest["aspect"].value_counts().to_dict() == {"dorsal right": 16, "palmar left": 16}
    assert set(manifest["session"]) == {""}
