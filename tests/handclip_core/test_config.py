"""Settings refuse keys that they do not have, and name the new name of an old one."""

from typing import ClassVar

import pytest

from handclip_core.config import Config
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
