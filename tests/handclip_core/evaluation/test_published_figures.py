"""The table of published figures in the documentation is arithmetic; it is checked as such."""

from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


def published() -> list[list[str]]:
    lines = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.endswith(("| trapezoid |", "| standard |"))
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_both_definitions_agree_in_every_row() -> None:
    rows = published()
    assert len(rows) == 27
    for method, tested_on, _, rank_one, trapezoid, standard, _ in rows:
        expected = 2 * float(trapezoid) - float(rank_one)
        assert float(standard) == pytest.approx(expected, abs=0.0101), (method, tested_on)


def test_galleries_are_those_that_the_sources_used() -> None:
    for method, tested_on, gallery, *_, printed in published():
        plain = tested_on == "HD" or method.startswith("CLIP-FH")
        assert gallery == ("plain" if plain else "all aspects")
        assert printed == ("standard" if method.startswith("CLIP-FH") else "trapezoid")
