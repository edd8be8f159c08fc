import csv
import io
import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from handclip_core.evaluation.access_log import Entry
from handclip_core.evaluation.bootstrap import compare_paired, estimate
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.tasks.classes.task import Classes
from tests.tune_jobs.finals.conftest import SweepFolder
from tests.tune_jobs.finals.entries import entrant, facts, scores
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.ranking import Cost, rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.finals.words import notes
from tune_jobs.reporting.page import Page


@pytest.fixture
def report(sweep_folder: SweepFolder) -> FinalsReport:
    standings = rank(
        [
            entrant("zero_shot", 0.9, trial=0, swept=0.5),
            entrant("full", 0.3, trial=2, swept=0.95, known=facts(peak=0.99, peak_unit=3)),
            entrant("adapters", 0.305),
        ]
    )
    past = read_sweep(sweep_folder())
    failures = {"full, trial 3, seed 1001": "RuntimeError: <b>a | b</b>"}
    return FinalsReport(past, (1001, 1002, 1003), standings, Cost(False, 1.0), failures, None)


def looked(number: int) -> FinalTest:
    about = {"sweep": "tiny", "chosen": "full, trial 2"}
    looks = tuple(Entry(n, f"2030-01-0{n}", "opened", about, "", str(n)) for n in (1, 2))
    better, worse = scores(0.3, 1), scores(0.8, 1)
    figures, clip = ({name: estimate(one, name) for name in ("map", "cmc1")} for one in (better, worse))
    gaps = {name: compare_paired(better, worse, name) for name in ("map", "cmc1")}
    return FinalTest(
        "full, trial 2", "abc", number, looks, figures, clip, gaps, as_it_is="its backbone as it is", model="abc"
    )


def test_the_sweeps_maximum_stands_beside_the_result_as_optimistic(report: FinalsReport) -> None:
    text = report.text()
    winner = report.standings.winner.score
    assert f"Winner: full, trial 2, validation mAP {100 * winner.mean:.2f} ± {100 * (winner.sd or 0):.2f}" in text
    assert "The sweep's own maximum, 70.00 by trial 2 (full), is the best unit of the best of 4 trials" in text
    assert f"The same settings on fresh seeds: {100 * winner.mean:.2f}" in text
    assert "| no difference shown |" in report.page().markdown()
    assert "| in the sweep, optimistic |" in report.page().markdown()


def test_a_narrow_terminal_gets_fewer_columns_and_whole_words(report: FinalsReport) -> None:
    narrow, wide = report.text(width=100), report.text(width=200)
    for word in ("weights", "P(beats", "core-hours"):
        assert word in wide
        assert word not in narrow
    assert "no difference shown" in narrow
    assert "-32.08  -40.95 to -23.26" in wide, "figures stay on one line"
    assert max(map(len, narrow.split("The sweep's own")[0].splitlines()[:12])) <= 100


def test_a_configuration_past_its_best_is_named(report: FinalsReport) -> None:
    assert "after unit 3 of 10: a smaller budget may suit it" in report.text()


def test_the_audit_of_early_stopping_stands_in_the_report(report: FinalsReport) -> None:
    told = replace(report, past=replace(report.past, stopping=("early stopping ended 3 of 9 trials",)))
    assert "Early stopping in the sweep\nearly stopping ended 3 of 9 trials" in told.text()
    untold = replace(report, past=replace(report.past, stopping=()))
    assert "Early stopping in the sweep" not in untold.text()


def test_a_look_says_which_one_it_is_and_names_the_others(report: FinalsReport) -> None:
    first = FinalsReport(report.past, report.seeds, report.standings, report.cost, {}, looked(2)).text()
    assert "Access 2 of 2 to these identities so far" in first
    assert "Access 1: 2030-01-01, sweep tiny, full, trial 2." in first
    assert "makes a later one optimistic" in first
    assert "Access log entry abc" in first
    assert ", its backbone as it is " in first
    gap = looked(2).gaps["map"]
    assert f"difference {100 * gap.difference:+.2f} ({100 * gap.low:.2f} to {100 * gap.high:.2f})" in first


def test_the_csv_files_hold_fractions_that_match_the_standings(report: FinalsReport, tmp_path: Path) -> None:
    report.write(tmp_path)
    found = list(csv.DictReader(io.StringIO((tmp_path / "finalists.csv").read_text())))
    for row, standing in zip(found, report.standings.rows, strict=True):
        assert row["finalist"] == standing.entrant.name
        assert float(row["map"]) == standing.score.mean
    assert (found[0]["gap"], found[0]["trial"], found[1]["trial"]) == ("", "2", "")
    wins = list(csv.DictReader(io.StringIO((tmp_path / "p_beats.csv").read_text())))
    assert float(wins[0]["zero_shot, trial 0"]) == report.standings.wins[0, 2]
    verdict = list(csv.DictReader(io.StringIO((tmp_path / "verdict.csv").read_text())))
    assert [row["verdict"] for row in verdict] == ["winner", "no difference shown", "worse"]
    assert [(row["swept_trials"], row["swept_units"]) for row in verdict] == [("2", "4"), ("0", "0"), ("1", "2")]


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


def test_the_headline_says_how_far_the_winner_is_above_clip_as_it_is(report: FinalsReport) -> None:
    clip = next(row for row in report.standings.rows if row.entrant.recipe.strategy == "zero_shot")
    assert clip.gap is not None
    low, high = -100 * clip.gap.high, -100 * clip.gap.low
    said = f"To CLIP as it is: mAP {-100 * clip.gap.difference:+.2f}, 95 % {low:+.2f} to {high:+.2f} over seeds and"
    assert said in report.text()
    without = [row.entrant for row in report.standings.rows if row is not clip]
    assert "To CLIP as it is" not in replace(report, standings=rank(without)).text()


def test_with_several_backbones_the_headline_is_about_the_winners_own(report: FinalsReport) -> None:
    finalists = [entrant("zero_shot", 0.4, backbone="nano"), entrant("zero_shot", 0.9, backbone="test_vit")]
    standings = rank([*finalists, entrant("full", 0.3, trial=2, backbone="test_vit")])
    own = standings.rows[-1]
    assert (own.name, standings.winner.name) == ("zero_shot@test_vit, default", "full@test_vit, trial 2")
    assert own.gap is not None
    told = replace(report, standings=standings).text()
    assert f"To its backbone as it is: mAP {-100 * own.gap.difference:+.2f}, 95 %" in told


def test_notes_on_baselines_are_for_tasks_that_have_some(report: FinalsReport) -> None:
    assert "Baselines are descriptors" in report.page().markdown()
    assert not any("Baselines" in note for note in notes(Classes()))


def test_notes_on_fusions_are_for_finals_with_one(report: FinalsReport) -> None:
    said = "Each half of the identities is scored by weights that were fitted to the other half"
    assert said not in report.page().markdown()
    first = report.standings.winner.entrant
    fused = replace(first, name="fusion", recipe=replace(first.recipe, fusion=ScoreFusion.of_cosines((1.0,))))
    told = replace(report, standings=rank([first, fused]))
    assert said in told.page().markdown()


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


def held_against(report: FinalsReport, noise: float) -> FinalsReport:
    """The same finals with a baseline."""
    entrants = [row.entrant for row in report.standings.rows]
    return replace(report, standings=rank(entrants, {"hog": scores(noise, 9), "pixels": scores(0.95, 9)}))


@pytest.mark.parametrize(
    ("noise", "said"),
    [(0.1, "The winner is worse than the baseline hog"), (0.3, "The winner is not shown to beat the baseline hog")],
)
def test_a_winner_that_beats_no_baseline_is_what_every_report_says_first(
    report: FinalsReport, noise: float, said: str
) -> None:
    told = held_against(report, noise)
    gap = told.standings.baselines[0].gap
    figures = f"difference {-100 * gap.difference:+.2f} mAP (95 % {-100 * gap.high:+.2f} to {-100 * gap.low:+.2f})"
    assert told.text().startswith(f"{said}, which uses no CLIP: {figures}")
    assert told.page().markdown().startswith(f"# Finals\n\n{said}")
    assert re.findall(r"<p>(.*?)</p>", told.page().html())[0].startswith(said)
    assert "Winner: full, trial 2" in told.text()


def test_a_winner_that_beats_the_best_baseline_comes_first_and_by_how_much_is_said(report: FinalsReport) -> None:
    told = held_against(report, 0.8)
    assert told.page().markdown().startswith("# Finals\n\nWinner: full, trial 2")
    for text in (told.text(), told.page().markdown(), told.page().html()):
        assert "It beats the best of 2 baselines, hog: difference +" in text
        assert "is not shown to beat" not in text


def test_baselines_are_rows_of_tables_page_and_csv(report: FinalsReport, tmp_path: Path) -> None:
    told = held_against(report, 0.1)
    baseline, first = told.standings.baselines[0], told.standings.winner
    lines = [line for line in told.page().markdown().split("### Finalists")[1].splitlines() if line.startswith("| ")][
        2:
    ]
    assert lines[0].startswith(f"| hog | baseline | – | {100 * baseline.score.mean:.2f} |")
    assert lines[1].startswith(f"| {first.name} | rank 1 | 1 |")
    assert told.page().sections[1].figures[0].data[0]["y"][0] == "hog"
    told.write(tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "finalists.csv").read_text())))
    assert [row["finalist"] for row in rows[-2:]] == ["hog", "pixels"]
    assert {(row["kind"], row["place"], row["trial"], row["seeds"], row["map_sd"]) for row in rows[-2:]} == {
        ("baseline", "", "", "", "")
    }
    assert float(rows[-2]["gap"]) == baseline.gap.difference


def test_a_strategy_of_a_few_trials_is_not_called_worse_and_its_trials_stand_beside_that(report: FinalsReport) -> None:
    standings = rank([entrant("full", 0.3, trial=2), entrant("linear_probe", 0.9, trial=1), entrant("zero_shot", 0.9)])
    text = replace(report, standings=standings).page().markdown()
    assert "| linear_probe | trial 1 | not searched enough to say | 1 | 2 |" in text
    assert "| zero_shot | default | worse | 1 | 2 |" in text


def test_hours_and_speed_say_by_what_they_are_counted(report: FinalsReport, tmp_path: Path) -> None:
    on_gpus = replace(report, cost=Cost(True, 1.0))
    for told, names, row in (
        (report, ("CPU-hours a fit", "core-hours of search", "images a CPU-second"), "fit_cpu_hours"),
        (on_gpus, ("GPU-hours a fit", "GPU-hours of search", "images/s"), "fit_gpu_hours"),
    ):
        assert all(f"| {name} |" in told.page().markdown() for name in names)
        told.write(tmp_path)
        first = next(csv.DictReader(io.StringIO((tmp_path / "verdict.csv").read_text())))
        assert float(first[row]) == (36 if told is on_gpus else 72) / 3600
    unmeasured = rank([entrant("full", 0.3, known=facts(cpu_s=nan))])
    assert "| 1,000 | – |" in replace(report, standings=unmeasured).page().markdown()
