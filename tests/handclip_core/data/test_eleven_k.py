"""11k Hands as distributed, and as people have changed it."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handclip_core.data.eleven_k import prepare_eleven_k
from handclip_core.data.manifest import Cut, Prepared, load_prepared
from handclip_core.errors import InputError

PEOPLE = (*range(1, 9), *range(1060, 1066))
Write = Callable[..., Path]


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "HandInfo.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(root: Path, rows: list[dict[str, str]], *, encoding: str = "utf-8", end: str = "\n", turn: int = 1) -> None:
    header = list(rows[0])[::turn]
    with (root / "HandInfo.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, header, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)


def same(first: Prepared, second: Prepared) -> bool:
    return first.manifest.equals(second.manifest) and first.protocol.draws == second.protocol.draws


def refused(root: Path, out: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        prepare_eleven_k(root, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_manifest_holds_what_the_table_says(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    rows[5] |= {"nailPolish": "1", "irregularities": "1", "age": "71", "gender": "male", "skinColor": "very fair"}
    rewrite(root, rows)
    prepared = prepare_eleven_k(root, tmp_path / "out")
    row = prepared.manifest.set_index("path").to_dict("index")["Hands/Hand_0000005.jpg"]
    expected = {"identity": "0000001", "aspect": "dorsal left", "gender": "male", "age": 71, "skin_tone": "very fair"}
    expected |= {"accessories": 0, "nail_polish": 1, "irregularities": 1}
    assert {name: row[name] for name in expected} == expected
    assert len(prepared.manifest) == len(PEOPLE) * 12
    assert load_prepared(tmp_path / "out").manifest.equals(prepared.manifest)
    assert all(path.is_file() for path in prepared.paths())


def test_images_with_accessories_are_left_out_and_need_no_file(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    for row in rows[::7]:
        row["accessories"] = "1"
        (root / "Hands" / row["imageName"]).unlink()
    rewrite(root, rows)
    prepared = prepare_eleven_k(root, tmp_path / "out")
    assert len(prepared.manifest) == sum(row["accessories"] == "0" for row in rows)
    assert set(prepared.manifest["accessories"]) == {0}


def test_published_cut_uses_each_aspects_threshold(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k([*range(1, 9), 1037, 1038, 1042, 1043, 1050, 1051, 1052, 1053])
    prepared = prepare_eleven_k(root, tmp_path / "out")
    tested = prepared.manifest[prepared.manifest["subset"] == "test"]
    first_tested = tested.groupby("aspect")["identity"].min().to_dict()
    assert first_tested == {
        "dorsal right": "0001051",
        "dorsal left": "0001038",
        "palmar right": "0001052",
        "palmar left": "0001043",
    }


def test_common_cut_puts_nobody_on_both_sides(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k([*range(1, 9), 1037, 1038, 1042, 1043, 1050, 1051, 1052, 1053])
    manifest = prepare_eleven_k(root, tmp_path / "out", cut=Cut.COMMON).manifest
    sides = manifest.assign(tested=manifest["subset"] == "test").groupby("identity")["tested"].nunique()
    assert (sides == 1).all()
    assert manifest.loc[manifest["subset"] == "test", "identity"].nunique() == 8


def test_published_cut_that_splits_nothing_names_the_other(eleven_k: Write, tmp_path: Path) -> None:
    refused(eleven_k(range(1, 12)), tmp_path / "out", "published cut of .* lies at identity .*--cut common")


def test_marks_line_ends_and_column_order_do_not_matter(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    plain = prepare_eleven_k(root, tmp_path / "plain")
    rewrite(root, rows_of(root), encoding="utf-8-sig", end="\r\n", turn=-1)
    assert same(plain, prepare_eleven_k(root, tmp_path / "odd"))


def test_nothing_depends_on_the_order_of_rows_or_files(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    plain = prepare_eleven_k(root, tmp_path / "plain", seed=3)
    rewrite(root, rows_of(root)[::-1])
    for image in sorted((root / "Hands").iterdir(), reverse=True):
        moved = image.with_suffix(".tmp")
        shutil.copy(image, moved)
        moved.replace(image)
    assert same(plain, prepare_eleven_k(root, tmp_path / "turned", seed=3))
    assert not same(plain, prepare_eleven_k(root, tmp_path / "seed", seed=4))


def test_trailing_blank_in_an_id_makes_no_new_person(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    rows[-1]["id"] += " "
    rewrite(root, rows)
    assert prepare_eleven_k(root, tmp_path / "out").manifest["identity"].nunique() == len(PEOPLE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "abc"}, "HandInfo.csv line 3: id 'abc' is not a number"),
        ({"aspectOfHand": "dorsal middle"}, "line 3: unknown aspectOfHand 'dorsal middle'"),
        ({"accessories": "maybe"}, "line 3: accessories 'maybe' is neither 0 nor 1"),
        ({"imageName": ""}, "line 3: no imageName"),
        ({"imageName": "../HandInfo.csv"}, r"line 3: \.\./HandInfo.csv is no path inside"),
        ({"imageName": "/etc/hostname"}, "line 3: /etc/hostname is no path inside"),
        ({"imageName": "gone.jpg"}, "line 3: gone.jpg no such file"),
        ({"imageName": "Hand_0000000.jpg"}, "Hand_0000000.jpg is described twice, differently"),
    ],
)
def test_bad_rows_are_refused_or_skipped(eleven_k: Write, tmp_path: Path, change: dict[str, str], reason: str) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    rows[1] |= change
    if change.get("imageName") == "Hand_0000000.jpg":
        rows[1]["age"] = "44"
    rewrite(root, rows)
    refused(root, tmp_path / "out", reason + ".*--skip-bad")
    prepared = prepare_eleven_k(root, tmp_path / "out", skip_bad=True)
    num_bad = 2 if "twice" in reason else 1
    assert len(prepared.protocol.skipped) == num_bad
    assert len(prepared.manifest) == len(rows) - num_bad


def test_repeated_rows_count_once_and_are_told(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    rewrite(root, [*rows, *rows[:3]])
    prepared = prepare_eleven_k(root, tmp_path / "out")
    assert len(prepared.manifest) == len(rows)
    assert any("3 rows are repeated" in note for note in prepared.protocol.notes)


def test_files_without_rows_are_told(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    (root / "Hands" / "Zebra.jpg").write_bytes(b"")
    prepared = prepare_eleven_k(root, tmp_path / "out")
    assert prepared.protocol.notes == ("Hands/: 1 files have no row in HandInfo.csv (first: Zebra.jpg)",)


def test_bad_files_are_refused_by_name_or_skipped(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    hands = root / "Hands"
    (hands / "Hand_0000000.jpg").write_bytes(b"")
    truncated = hands / "Hand_0000001.jpg"
    truncated.write_bytes(truncated.read_bytes()[:500])
    Image.new("RGB", (1, 1)).save(hands / "Hand_0000002.jpg")
    (hands / "Hand_0000003.jpg").unlink()
    (hands / "Hand_0000003.jpg").symlink_to(hands / "Hand_0000003.jpg")
    (hands / "Hand_0000004.jpg").unlink()
    (hands / "Hand_0000004.jpg").symlink_to(root / "HandInfo.csv")
    refused(root, tmp_path / "out", r"Hand_0000003.jpg is a link.*; Hands/Hand_0000000.jpg: empty file.*--skip-bad")
    prepared = prepare_eleven_k(root, tmp_path / "out", skip_bad=True)
    skipped = "\n".join(prepared.protocol.skipped)
    for number, reason in enumerate(("empty file", "truncated", "1 x 1 pixels", "loop", "leaves the data folder")):
        assert any(f"Hand_000000{number}.jpg" in line and reason in line for line in skipped.splitlines()), skipped
    assert len(prepared.manifest) == len(PEOPLE) * 12 - 5


def test_unreadable_file_is_refused_by_name(eleven_k: Write, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    root = eleven_k(PEOPLE)
    (root / "Hands" / "Hand_0000007.jpg").chmod(0)
    refused(root, tmp_path / "out", "Hand_0000007.jpg: no permission")


def test_missing_parts_of_the_layout(eleven_k: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(tmp_path / "none", out, r"none: no such folder; 11k Hands is a folder that holds HandInfo.csv and Hands/")
    root = eleven_k(PEOPLE)
    shutil.move(root / "HandInfo.csv", tmp_path / "table.csv")
    refused(root, out, "HandInfo.csv: no such file")
    (root / "HandInfo.csv").write_text("", encoding="utf-8")
    refused(root, out, "HandInfo.csv: empty")
    text = (tmp_path / "table.csv").read_text(encoding="utf-8")
    (root / "HandInfo.csv").write_text(text.replace("aspectOfHand", "aspect", 1), encoding="utf-8")
    refused(root, out, "HandInfo.csv: no column 'aspectOfHand'; it has id, age")
    shutil.rmtree(root / "Hands")
    refused(root, out, "Hands: no such folder")
    (root / "Hands").mkdir()
    refused(root, out, "Hands: empty folder")


def test_too_few_people_for_validation(eleven_k: Write, tmp_path: Path) -> None:
    refused(eleven_k([1, 2, 1060, 1061]), tmp_path / "out", "no validation split with a gallery match")
    root = eleven_k(PEOPLE, shots=1, name="single")
    refused(root, tmp_path / "out", "no validation split with a gallery match: 0 of 8 training identities have two")


def test_an_id_is_a_number_however_it_is_written(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    plain = prepare_eleven_k(root, tmp_path / "plain", cut=Cut.COMMON)
    rows = rows_of(root)
    for row in rows[::3]:
        row["id"] = str(int(row["id"]))
    rewrite(root, rows)
    found = prepare_eleven_k(root, tmp_path / "out", cut=Cut.COMMON)
    assert found.manifest.equals(plain.manifest)
    assert found.protocol.warnings[0].startswith(f"{len(PEOPLE)} identities are written in several ways and")
    assert plain.protocol.warnings == ()


def test_values_as_spreadsheets_save_them(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    plain = prepare_eleven_k(root, tmp_path / "plain")
    rows = rows_of(root)
    for row in rows:
        row |= {"aspectOfHand": row["aspectOfHand"].title(), "accessories": "0.0", "age": "30.0"}
    rewrite(root, rows)
    assert prepare_eleven_k(root, tmp_path / "out").manifest.equals(plain.manifest)


def test_an_unknown_age_is_no_fault(eleven_k: Write, tmp_path: Path) -> None:
    root = eleven_k(PEOPLE)
    rows = rows_of(root)
    rows[0]["age"] = ""
    rewrite(root, rows)
    assert prepare_eleven_k(root, tmp_path / "out").manifest["age"].isna().sum() == 1
