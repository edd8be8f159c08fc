"""Progress in a log: one unit, however the work is cut."""

import pytest

from handclip_core import console
from handclip_core.console import track


def test_a_log_counts_in_one_unit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.0)
    assert list(track("abc", description="drawing images", total=9, sizes=(4, 3, 2))) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [f"drawing images: {done}/9" for done in (4, 7, 9)]
    assert list(track("ab", description="checking images", total=2)) == ["a", "b"]
    assert "checking images: 2/2" in capsys.readouterr().err
