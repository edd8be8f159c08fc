"""Paths that users name: usable, or one line before the work begins; nothing is left behind."""

from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.paths import input_folder, output_folder, read_file, shown_path, user_path


def test_home_and_variables_are_put_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("HANDS", "/data/hands")
    assert user_path("~/a") == Path("/home/someone/a")
    assert user_path("$HANDS/a") == user_path("${HANDS}/a") == Path("/data/hands/a")
    assert user_path("a/~b") == Path("a/~b")
    (tmp_path / "a$HANDS").mkdir()
    assert user_path(tmp_path / "a$HANDS") == tmp_path / "a$HANDS", "what is there under its own name is meant"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("a\0b", r"a\\x00b: holds a control character"),
        ("a\nb", r"a\\nb: holds a control character"),
        ("x" * 256, "the name is too long"),
        ("none/" + "ü" * 128, "the name is too long"),
        ("y/" * 2100, "the name is too long"),
        ("$NO_SUCH_VARIABLE/a", "no such user or variable"),
        ("~no_such_user/a", "no such user or variable"),
        ("a\ud800", "is no text in UTF-8"),
    ],
)
def test_what_can_be_no_path_is_one_line(given: str, fault: str) -> None:
    for use in (user_path, lambda path: read_file(Path(path)), lambda path: output_folder(path, option="--out")):
        with pytest.raises(InputError, match=fault) as refused:
            use(given)
        assert len(str(refused.value).splitlines()) == 1
        assert len(str(refused.value)) < 250


def test_an_empty_text_is_no_path_and_a_dot_is_one() -> None:
    assert user_path(".") == user_path(Path()) == Path()
    for empty in ("", " "):
        with pytest.raises(InputError, match="an empty text is no path"):
            user_path(empty)


def test_a_folder_to_write_to_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a" / "b", option="--out") == tmp_path / "a" / "b"
    assert output_folder(tmp_path, option="--out") == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written_to_name_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, fault in (
        (tmp_path / "file", "is a file, not a folder"),
        (tmp_path / "file" / "x" / "y", "lies below a file"),
        (tmp_path / "link", "is a link to nothing"),
        (tmp_path / "loop" / "x", "is a link"),
        (Path("/proc/x"), "nothing can be written in /proc|no permission"),
    ):
        with pytest.raises(InputError, match=rf"^--out: .*({fault}).*; choose another folder$"):
            output_folder(path, option="--out")


def test_what_is_to_be_read_is_named_with_its_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert read_file(tmp_path / "file") == b"abc"
    assert input_folder(tmp_path, mend="") == tmp_path
    for path, fault in (
        (tmp_path / "none", "no such file"),
        (tmp_path / "file" / "x", "lies below a file"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "loop", "a link that leads round in a loop"),
    ):
        with pytest.raises(InputError, match=fault):
            read_file(path)
    for path, fault in (
        (tmp_path / "none", "no such folder; name it"),
        (tmp_path / "file", "is a file, not a folder; name it"),
        (tmp_path / "file" / "x", "lies below a file, which is no folder; name it"),
        (tmp_path / "empty", "empty folder; name it"),
    ):
        with pytest.raises(InputError, match=fault):
            input_folder(path, mend="name it")


def test_a_path_is_shown_on_one_short_line() -> None:
    assert shown_path("a\nb\x1b\udcff") == r"a\nb\x1b\udcff"
    assert len(shown_path("z" * 5000)) < 130
