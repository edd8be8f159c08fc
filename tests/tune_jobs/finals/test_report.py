import re
from dataclasses import replace

import pytest

from tests.tune_jobs.finals.entries import entrant
from tune_jobs.finals.ranking import rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.reporting.page import Page


def test_a_narrow_terminal_gets_fewer_columns_and_whole_words(report: FinalsReport) -> None:
    narrow, wide = report.text(width=100), report.text(width=200)
    for word in ("weights", "P(beats", "core-hours"):
        assert word in wide
        assert word not in narrow
    assert "no difference shown" in narrow
    assert "-32.08  -40.95 to -23.26" in wide, "figures stay on one line"
    assert max(map(len, narrow.split("The sweep's own")[0].splitlines()[:12])) <= 100


def test_the_audit_of_early_stopping_stands_in_the_report(report: FinalsReport) -> None:
    told = replace(report, past=replace(report.past, stopping=("early stopping ended 3 of 9 trials",)))
    assert "Early stopping in the sweep\nearly stopping ended 3 of 9 trials" in told.text()
    untold = replace(report, past=replace(report.past, stopping=()))
    assert "Early stopping in the sweep" not in untold.text()


def test_markdown_tables_keep_their_columns_and_start_no_markup(report: FinalsReport) -> None:
    text = report.page().markdown()
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "<b>" not in text
    assert "a \\| b" in text


def test_the_page_keeps_its_tables_and_escapes_what_a_run_said(report: FinalsReport) -> None:
    page = report.page()
    assert "failed: full, trial 3, seed 1001: RuntimeError: <b>a | b</b>" in page.sections[1].lines
    assert "&lt;b&gt;a | b&lt;/b&gt;" in page.html()
    again = Page.model_validate_json(page.model_dump_json())
    assert again == page, "what the finals leave is what the sweep's report takes in"


def test_the_matrix_is_shaded_by_who_wins(report: FinalsReport) -> None:
    matrix = report.page().sections[1].tables[1]
    assert len(matrix.shades) == 6
    for place, shade in matrix.shades.items():
        row, column = map(int, place.split(","))
        assert shade == pytest.approx(2 * report.standings.wins[row, column - 1] - 1)


def test_the_figure_has_every_row_with_its_seeds_and_the_sweeps_score_beside_it(report: FinalsReport) -> None:
    bars, seeds, swept = report.page().sections[1].figures[0].data
    assert bars["y"] == [row.name for row in report.standings.rows]
    assert bars["x"][0] - bars["error_x"]["arrayminus"][0] == pytest.approx(100 * report.standings.winner.score.low)
    assert len(seeds["x"]) == 3 * 3
    assert swept["x"] == [95.0, 50.0]


def test_a_strategy_of_a_few_trials_is_not_called_worse_and_its_trials_stand_beside_that(report: FinalsReport) -> None:
    standings = rank([entrant("full", 0.3, trial=2), entrant("linear_probe", 0.9, trial=1), entrant("zero_shot", 0.9)])
    text = replace(report, standings=standings).page().markdown()
    assert "| linear_probe | trial 1 | not searched enough to say | 1 | 2 |" in text
    assert "| zero_shot | default | worse | 1 | 2 |" in text
