"""What the finals say in sentences, wherever these stand."""

import re
from dataclasses import replace

import pytest

from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.tasks.classes.task import Classes
from tests.tune_jobs.finals.entries import entrant, held_against, looked
from tune_jobs.finals.ranking import rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.finals.words import notes


def test_the_sweeps_maximum_stands_beside_the_result_as_optimistic(report: FinalsReport) -> None:
    text = report.text()
    winner = report.standings.winner.score
    assert f"Winner: full, trial 2, validation mAP {100 * winner.mean:.2f} ± {100 * (winner.sd or 0):.2f}" in text
    assert "The sweep's own maximum, 70.00 by trial 2 (full), is the best unit of the best of 4 trials" in text
    assert f"The same settings on fresh seeds: {100 * winner.mean:.2f}" in text
    assert "| no difference shown |" in report.page().markdown()
    assert "| in the sweep, optimistic |" in report.page().markdown()


def test_a_configuration_past_its_best_is_named(report: FinalsReport) -> None:
    assert "after unit 3 of 10: a smaller budget may suit it" in report.text()


def test_a_look_says_which_one_it_is_and_names_the_others(report: FinalsReport) -> None:
    first = FinalsReport(report.past, report.seeds, report.standings, report.cost, {}, looked(2)).text()
    assert "Access 2 of 2 to these identities so far" in first
    assert "Access 1: 2030-01-01, sweep tiny, full, trial 2." in first
    assert "makes a later one optimistic" in first
    assert "Access log entry abc" in first
    assert ", its backbone as it is " in first
    gap = looked(2).gaps["map"]
    assert f"difference {100 * gap.difference:+.2f} ({100 * gap.low:.2f} to {100 * gap.high:.2f})" in first


def test_the_first_sentence_says_which_how_sure_and_at_what_cost(report: FinalsReport) -> None:
    first = report.page().verdict[0]
    assert first.startswith("Winner: full, trial 2, validation mAP ")
    assert re.search(r", 95 % [\d.]+ to [\d.]+ over 20 identities, at [\d.<\s]+ CPU-hours a fit\.$", first), first


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
        assert "The winner beats the best of 2 baselines, hog: difference +" in text
        assert "is not shown to beat" not in text
