"""The finals' CSV files, beside the tables that people read."""

import csv
import io
from dataclasses import replace
from math import nan
from pathlib import Path

from tests.tune_jobs.finals.entries import entrant, facts, held_against
from tune_jobs.finals.ranking import Cost, rank
from tune_jobs.finals.report import FinalsReport


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
