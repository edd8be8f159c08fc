"""Settings refuse keys that they do not have, and name the new name of an old one."""

from pathlib import Path
from typing import ClassVar

import pytest

from handclip_core.config import Config, UserPath
from handclip_core.errors import InputError


class _Inner(Config):
    renamed: ClassVar[dict[str, str]] = {"old": "new"}

    new: int = 1
    """Some number."""


class _Outer(Config):
    inner: _Inner = _Inner()
    """Nested settings."""


def test_an_old_key_is_refused_with_the_new_one_named() -> None:
    with pytest.raises(InputError, match=r"^file: inner: 'old' is now called 'new'$"):
        _Outer.parse({"inner": {"old": 2}}, source="file")
    assert _Outer.parse({"inner": {"new": 2}}, source="file").inner.new == 2


def test_an_unknown_key_is_refused_by_its_path() -> None:
    with pytest.raises(InputError, match=r"^file: unknown key 'inner.other'$"):
        _Outer.parse({"inner": {"other": 2}}, source="file")


class _Where(Config):
    folder: UserPath
    """A path."""


def test_a_path_is_read_from_python_and_from_json() -> None:
    where = _Where.parse({"folder": Path("/some/where")}, source="file")
    assert _Where.parse({"folder": "/some/where"}, source="file") == where
    assert _Where.model_validate_json(where.model_dump_json()) == where


class _Part(Config):
    kind: str = "plain"
    """What sort."""
    rate: float = 1.0
    """A number."""
    inner: _Inner = _Inner()
    """Nested settings."""


class _Whole(Config):
    part: _Part = _Part(rate=0.5, inner=_Inner(new=7))
    """Another default than that of its class."""
    other: _Part | None = _Part(rate=0.5)
    """One of several classes."""


def test_what_a_group_leaves_out_is_as_in_the_default_of_the_group() -> None:
    assert _Whole.parse({"part": {}}, source="file") == _Whole()
    given = _Whole.parse({"part": {"inner": {}, "rate": 2.0}}, source="file")
    assert given.part == _Part(rate=2.0, inner=_Inner(new=7))
    assert _Whole.parse({"part": _Part().model_dump()}, source="file").part == _Part()
    assert _Whole.parse({"part": _Part(rate=3.0)}, source="file").part == _Part(rate=3.0)


def test_a_group_of_another_kind_or_of_several_classes_begins_from_its_class() -> None:
    assert _Whole.parse({"part": {"kind": "other"}}, source="file").part == _Part(kind="other")
    assert _Whole.parse({"other": {}}, source="file").other == _Part()
