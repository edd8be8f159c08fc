"""Tables as people save them, and paths as people write them."""

from pathlib import Path

import pytest

from handclip_core.data.tables import found_path, path_fault, read_table, words_of
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
        b"id,imageName\n007,a.jpg,\n",
        b"id,imageName,\n007,a.jpg,,,\n",
        "id,imageName\n007,a.jpg\n".encode("utf-16"),
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
    ("data", "note"),
    [
        (b"id;imageName\n1;a,b.jpg\n", "table.csv: fields are separated by semicolons"),
        (b"sep=;\nid;imageName\n1;a,b.jpg\n", "table.csv: fields are separated by semicolons"),
        (b"id\timageName\n1\ta,b.jpg\n", "table.csv: fields are separated by tabs"),
        (b"a;b|id|imageName\n;|1|a,b.jpg\n", "table.csv: fields are separated by vertical bars"),
        (b'# made by hand\nid,imageName\n#,\n1,"a,b.jpg"\n', "table.csv: 2 lines begin with # and are passed over"),
    ],
)
def test_separators_and_comments_are_found_and_told(tmp_path: Path, data: bytes, note: str) -> None:
    read = read_table(table(tmp_path, data), required=COLUMNS)
    assert read.rows.to_dict("records") == [{"id": "1", "imageName": "a,b.jpg"}]
    assert len(read.notes) == 1
    assert read.notes[0].startswith(note)


def test_a_row_of_several_lines_has_the_number_of_its_first(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, b'id,imageName\n1,"a\nb"\n2,c\n'), required=COLUMNS).rows
    assert rows["imageName"].to_dict() == {2: "a\nb", 4: "c"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty; a table with the columns id, imageName"),
        (b"\n\n", "empty; a table"),
        (b"id,imageName\n", "no row"),
        (b"id,name\n1,a\n", "no column 'imageName'; it has id, name"),
        (b"id:imageName\n1:a\n", "no column 'id'; it has id:imageName"),
        (b"id;name\n1;a\n", "no column 'imageName'; it has id, name"),
        (b"id,imageName\n1,a\n2,\0b\n", "line 3: holds a NUL byte"),
        (b"id,imageName,id\n1,a,2\n", "more than one column 'id'"),
        (b"id,imageName\n1,a\n1,a,surplus\n", "line 3: 3 fields where the header has 2"),
        (b'id,imageName\n1,"open\n', "line 2: not readable as CSV"),
        ("id,imageName\n1,ü.jpg\n".encode("latin-1"), "line 2: not a CSV file in UTF-8"),
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

    (tmp_path / "locked.csv").touch()
    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(InputError, match=r"locked\.csv: cannot be read: no permission for this user"):
        read_table(tmp_path / "locked.csv", required=COLUMNS)


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


def test_one_way_to_write_a_path(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "p1").mkdir(parents=True)
    (root / "p1" / "a.jpg").touch()
    (root / "p1" / "e\u0301.jpg").touch()
    (root / "back\\slash.jpg").touch()
    (tmp_path / "link").symlink_to(root)
    for given in ("p1/a.jpg", "./p1/a.jpg", "p1//a.jpg", "p1\\a.jpg", ".\\p1\\a.jpg", str(root / "p1" / "a.jpg")):
        assert found_path(root, given) == "p1/a.jpg", given
    assert found_path(tmp_path / "link", str(root / "p1" / "a.jpg")) == "p1/a.jpg"
    assert found_path(tmp_path / "link", str(tmp_path / "link" / "p1" / "a.jpg")) == "p1/a.jpg"
    assert found_path(root, "p1/\u00e9.jpg") == "p1/e\u0301.jpg"
    assert found_path(root, "back\\slash.jpg") == "back\\slash.jpg", "what is there under its own name is meant"
    assert found_path(root, "none\\b.jpg") == "none/b.jpg"
    for given in ("../root/p1/a.jpg", "/etc/hosts", "C:\\hands\\a.jpg", str(tmp_path / "other.jpg")):
        assert path_fault(root, found_path(root, given)) == "is no path inside the data folder", given
    assert path_fault(root, "a\nb.jpg") == "holds a line end or another control character"


def test_words_are_the_same_however_written() -> None:
    assert {words_of(text) for text in ("Dorsal Right", "dorsal_right", " DORSAL-RIGHT ")} == {"dorsal right"}
