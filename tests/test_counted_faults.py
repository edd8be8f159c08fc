"""The tables of docs/operations.md count what is collected."""

from pathlib import Path

import pytest

from tests.count_faults import FAULTS, INPUTS, table

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"


@pytest.mark.parametrize(("what", "rows"), [("fault x moment", FAULTS), ("bad input", INPUTS)])
def test_the_tables_are_those_that_the_command_prints(what: str, rows: dict[str, tuple[str, ...]]) -> None:
    assert table(rows, what=what) in DOCUMENT.read_text()
