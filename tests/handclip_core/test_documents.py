"""YAML and JSON from outside: plain values, or one line that says what is wrong and where."""

import os
from pathlib import Path
from typing import Any

import pytest

from handclip_core.documents import MAX_BYTES, parse_yaml, read_document
from handclip_core.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: [1, 2.5, .inf, yes, null, x]", {"a": [1, 2.5, float("inf"), True, None, "x"]}),
        ("day: 2026-02-30", {"day": "2026-02-30"}),
        (
            "a: 0\nb: 0.5\nc: 0x1F\nd: -0\ne: '020'\nf: 1_000",
            {"a": 0, "b": 0.5, "c": 31, "d": 0, "e": "020", "f": 1000},
        ),
        ("base: &base {a: 1}\nmore: {<<: *base, b: 2}", {"base": {"a": 1}, "more": {"a": 1, "b": 2}}),
        ("a: =", {"a": "="}),
    ],
)
def test_plain_values_are_read(text: str, value: Any) -> None:
    assert parse_yaml(text, source="it") == value


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("limits: {hours: 1}\nbudget: 4\nlimits: {gpu_hours: 2}", "line 3: 'limits' is given again after line 1"),
        ("a: {b: 1, b: 1}", "line 1: 'b' is given again after line 1"),
        ("n: 007", "line 1: 007 has a leading zero"),
        ("n: -012", "line 1: -012 has a leading zero"),
        ("n: 1:30", "line 1: 1:30 would be read as a number of base 60"),
        ("n: 1:30.5", "line 1: 1:30.5 would be read as a number of base 60"),
        ("\nn: " + "7" * 9000, "line 2: 7777777777777777777777777777777777777... is no number for settings"),
        ("a: &a [1, *a]", "line 1: a value that holds itself"),
        ("a: &a {b: *a}", "line 1: a value that holds itself"),
        ("a: 1\n---\na: 2", "holds several YAML documents"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deep"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deep"),
        ("a: [" + "1," * 100_001 + "]", "too many values"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
        ), "too many values"),
        ("a: !!python/object/apply:os.getcwd []", "is no plain value"),
        ("a: !!binary aGk=", "is no plain value"),
        ("a: !!int text", "holds a number that is none"),
        ("? [a, b]\n: 1", "line 1: a key has to be a word"),
        ("a: 1\nb: {", "line 2: not readable as YAML or JSON"),
        ("a: \x00", "not readable as YAML or JSON"),
        ("a: *b", "not readable as YAML or JSON"),
    ],
)  # fmt: skip
def test_what_could_be_taken_for_something_else_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_yaml(text, source="my settings")
    assert str(refused.value).startswith("my settings: ")
    assert fault in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 200


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "s.yaml") == {"a": 1}


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("s.yaml", b"a: \xff\xfe", "not a text in UTF-8"),
        ("s.yaml", b"#" * (MAX_BYTES + 1), "has 1,048,577 bytes, more than"),
        ("s.json", b'{"a": 1, "a": 2}', "'a' is given twice"),
        ("s.json", b'{"a": 1,\n}', "line 2: not readable as JSON"),
        ("s.json", b'{"a": ' + b"9" * 6000 + b"}", "a number too long"),
        ("s.json", b"[" * 100_000, "nested too deep"),
    ],
)
def test_a_file_that_cannot_be_read_as_what_it_is_called(tmp_path: Path, name: str, data: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: .*{fault}"):
        read_document(tmp_path / name)


def test_what_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, fault in (
        (tmp_path / "pipe.yaml", "no plain file"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "no plain"),
    ):
        with pytest.raises(InputError, match=fault):
            read_document(path)
