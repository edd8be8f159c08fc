"""Tables as people save them, and paths as people write them."""

from pathlib import Path

import pytest

from handclip_core.data.tables import check_folder, path_fault, read_table
from handclip_core.errors import InputError

COLUMNS = ("id", "imageName")


def table(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"id,imageName\n007,a.jpg\n",
        b"\xef\xbb\xbfid,imageName\n007,a.jpg\n",
        b"id,imageName\r\n007,a.jpg\r\n",
        b"imageName,id\na.jpg,007\n",
        b" id , imageName \n 007 ,a.jpg  \n\n\n",
        b'"id","imageName","more"\n"007","a.jpg",""',
        b"\xef\xbb\xbfimageName,x,id\r\na.jpg,,007\r\n,,\r\n",
    ],
)
def test_marks_line_ends_blanks_and_column_order_do_not_matter(tmp_path: Path, data: bytes) -> None:
    rows = read_table(table(tmp_path, data), required=COLUMNS).rows
    assert rows.to_dict("index") == {2: {"id": "007", "imageName": "a.jpg"}}


def test_texts_that_look_like_missing_values_stay_texts(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, b"id,imageName\nNA,null\nnan,1e5\n"), required=COLUMNS).rows
    assert rows["id"].tolist() == ["NA", "nan"]
    assert rows["imageName"].tolist() == ["null", "1e5"]


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, b"id,imageName\n1,a\n\n2,b\n"), required=COLUMNS).rows
    assert list(rows.index) == [2, 4]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty; a table with the columns id, imageName"),
        (b"\n\n", "empty; a table"),
        (b"id,imageName\n", "no row"),
        (b"id,name\n1,a\n", "no column 'imageName'; it has id, name"),
        (b"id;imageName\n1;a\n", "no column 'id'; it has id;imageName"),
        (b"id,imageName,id\n1,a,2\n", "more than one column 'id'"),
        (b"id,imageName\n1,a,surplus\n", "not a CSV file in UTF-8"),
        (b'id,imageName\n1,"open\n', "not a CSV file in UTF-8"),
        ("id,imageName\n1,ü.jpg\n".encode("latin-1"), "not a CSV file in UTF-8"),
        ("id,imageName\n1,a\n".encode("utf-16"), "not a CSV file in UTF-8"),
    ],
)
def test_refused_in_one_line_that_names_the_file(tmp_path: Path, data: bytes, reason: str) -> None:
    path = table(tmp_path, data)
    with pytest.raises(InputError, match=reason) as caught:
        read_table(path, required=COLUMNS)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv", required=COLUMNS)

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(InputError, match=r"none\.csv: cannot be read \(Permission denied\)"):
        read_table(tmp_path / "none.csv", required=COLUMNS)


def test_folders_must_exist_and_hold_something(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, reason in (("none", "no such folder"), ("file", "not a folder"), ("empty", "empty folder")):
        with pytest.raises(InputError, match=rf"{name}: {reason}; give me images"):
            check_folder(tmp_path / name, what="give me images")
    check_folder(tmp_path, what="")


def test_paths_may_not_leave_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").touch()
    (tmp_path / "outside.jpg").touch()
    (root / "inside_link.jpg").symlink_to(root / "a.jpg")
    (root / "outside_link.jpg").symlink_to(tmp_path / "outside.jpg")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.jpg").symlink_to(root / "loop2.jpg")
    (root / "loop2.jpg").symlink_to(root / "loop.jpg")
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    assert path_fault(root, "a.jpg") is None
    assert path_fault(root, "inside_link.jpg") is None
    for relative, reason in (
        ("", "no path inside"),
        ("../outside.jpg", "no path inside"),
        ("sub/../../outside.jpg", "no path inside"),
        (str(tmp_path / "outside.jpg"), "no path inside"),
        (str(root / "a.jpg"), "no path inside"),
        ("outside_link.jpg", "leaves the data folder"),
        ("up/outside.jpg", "leaves the data folder"),
        ("loop.jpg", "loop"),
        ("dangling.jpg", "no such file"),
        ("gone.jpg", "no such file"),
        ("sub", "is not a file"),
    ):
        assert reason in str(path_fault(root, relative)), relative


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.jpg").touch()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert path_fault(tmp_path / "root", "a.jpg") is None
