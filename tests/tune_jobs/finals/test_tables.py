"""The finals' tables: which rows and columns they have, and how their figures are written."""

from dataclasses import replace
from math import nan

import pytest

from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.seeds import SeedEstimate
from handclip_core.tasks import IDENTITIES
from tests.tune_jobs.finals.entries import entrant, facts, finalist, scores
from tune_jobs.finals.mixtures import Entrant, Recipe
from tune_jobs.finals.past_sweep import Searched
from tune_jobs.finals.ranking import Cost, Standings, rank, verdicts
from tune_jobs.finals.tables import (
    costs,
    less,
    mean_sd,
    ranking_table,
    score_heading,
    swept_score,
    verdict_table,
    wins_table,
)
from tune_jobs.reporting.page import NONE, Table

METRICS = IDENTITIES.metrics


def column(table: Table, heading: str) -> list[str]:
    """The cells below a heading."""
    at = table.headings.index(heading)
    return [str(row[at]) for row in table.rows]


@pytest.fixture(scope="module")
def standings() -> Standings:
    """The best was searched and is in place 1, a mixture in place 2; a baseline stands between others."""
    mixed = Entrant(
        "full, uniform soup",
        Recipe((finalist("full", trial=1), finalist("full", trial=2))),
        tuple(scores(0.45, seed) for seed in (1, 2, 3)),
        ((facts(),) * 3,) * 2,
    )
    entrants = [entrant("zero_shot", 0.9), entrant("full", 0.3, trial=4, swept=0.8125), mixed]
    return rank(entrants, {"hog": scores(0.6, 7)})


def test_a_score_is_in_percent_with_its_spread_if_there_are_seeds() -> None:
    found = SeedEstimate(mean=0.61236, sd=0.01234, low=0.5, high=0.7, num_seeds=3, num_identities=20)
    assert mean_sd(found) == "61.24 ± 1.23"
    assert mean_sd(replace(found, sd=None)) == "61.24"
    assert mean_sd(replace(found, sd=0.0)) == "61.24 ± 0.00"


def test_baselines_stand_among_the_finalists_without_a_place(standings: Standings) -> None:
    table = ranking_table(standings)
    assert column(table, "finalist") == ["full, trial 4", "full, uniform soup", "hog", "zero_shot, default"]
    assert column(table, "place") == ["1", "2", NONE, "3"]
    assert column(table, "why") == ["rank 1", "mixture", "baseline", "default"]
    assert table.num_words == 2
    means = [float(cell.split(" ± ")[0]) for cell in column(table, score_heading(METRICS))]
    assert means == sorted(means, reverse=True)


def test_all_but_the_first_are_held_against_it_and_all_but_zero_shot_against_that(standings: Standings) -> None:
    table = ranking_table(standings)
    to_first = column(table, "to the first")
    assert to_first[0] == column(table, "95 % of that")[0] == NONE
    assert all(gap.startswith("-") for gap in to_first[1:])
    winner, last = standings.rows[0].score.mean, standings.rows[-1].score.mean
    assert float(to_first[-1]) == pytest.approx(100 * (last - winner), abs=0.006)
    beats = column(table, "P(beats zero-shot)")
    assert beats[-1] == NONE
    assert beats[0] == f"{standings.wins[0, 2]:.3f}"


def test_the_sweeps_own_score_is_told_of_single_configurations_that_it_tried(standings: Standings) -> None:
    assert column(ranking_table(standings), "in the sweep, optimistic") == ["81.25", NONE, NONE, NONE]
    assert [swept_score(row) for row in standings.with_baselines] == [0.8125, None, None, None]


def test_a_narrow_terminal_does_without_columns_that_there_are(standings: Standings) -> None:
    table = ranking_table(standings)
    kept = table.without(*less(METRICS)).headings
    assert kept == ("finalist", score_heading(METRICS), "to the first", "95 % of that", "in the sweep, optimistic")


SEARCHED = {"full": Searched(12, 50, 7200.0), "zero_shot": Searched(1, 0, 1.0)}
GPUS, CPUS = Cost(True, 0.5), Cost(False, 2.0)


def test_a_strategy_is_told_with_what_its_best_is_and_cost() -> None:
    untrained = facts(images=0, train_s=0.0, cpu_s=0.0, params_trained=0)
    ranked = rank([entrant("zero_shot", 0.9, known=untrained), entrant("full", 0.3, trial=4)])
    table = verdict_table(verdicts(ranked, SEARCHED, GPUS, budget=10), GPUS, METRICS)
    assert [str(cell) for cell in table.rows[0][:5]] == ["full", "trial 4", column(table, "verdict")[0], "12", "50"]
    assert table.num_words == 3
    fit, search, weights, speed = (column(table, heading) for heading in costs(GPUS))
    assert fit == ["< 0.01", "0.00"], "36 s on half a GPU; none"
    assert search == ["1.00", "< 0.01"], "7200 s on half a GPU; a second"
    assert (weights, speed) == (["1,000", "0"], ["100", NONE])
    assert column(table, "to the winner")[0] == NONE


def test_what_was_not_measured_is_a_dash() -> None:
    ranked = rank([entrant("full", 0.3, known=facts(cpu_s=nan))])
    table = verdict_table(verdicts(ranked, {}, CPUS, budget=10), CPUS, METRICS)
    assert [column(table, heading) for heading in costs(CPUS)] == [[NONE], ["0.00"], ["1,000"], [NONE]]


def test_several_backbones_have_a_column_and_one_has_none() -> None:
    ranked = rank([entrant("full", 0.5, trial=1, backbone="a"), entrant("full", 0.3, trial=2, backbone="b")])
    table = verdict_table(verdicts(ranked, {}, CPUS, budget=10), CPUS, METRICS)
    assert table.headings[:3] == ("strategy", "backbone", "its best")
    assert (column(table, "backbone"), column(table, "its best")) == (["b", "a"], ["trial 2", "trial 1"])
    assert table.num_words == 4
    one = verdict_table(verdicts(rank([entrant("full", 0.3)]), {}, CPUS, budget=10), CPUS, METRICS)
    assert one.headings[:2] == ("strategy", "its best")


def test_a_fusion_is_told_with_how_and_of_what() -> None:
    members = (finalist("full", trial=1, backbone="a"), finalist("adapters", trial=2, backbone="b"))
    runs = tuple(scores(0.2, seed) for seed in (1, 2, 3))
    recipe = Recipe(members, fusion=ScoreFusion.of_cosines((0.5, 0.5)))
    ranked = rank([Entrant("fusion, by score", recipe, runs, ((facts(),) * 3,) * 2)])
    assert ranking_table(ranked).rows[0][:2] == ("fusion, by score", "fusion")
    table = verdict_table(verdicts(ranked, {}, CPUS, budget=10), CPUS, METRICS)
    assert table.rows[0][:3] == ("fusion", "a + b", "by score")


def test_hours_are_those_of_what_was_held() -> None:
    assert costs(GPUS)[:2] == ("GPU-hours a fit", "GPU-hours of search")
    assert costs(CPUS)[0::3] == ("CPU-hours a fit", "images a CPU-second")


def test_wins_are_of_the_row_over_the_column_and_shaded_from_one_half(standings: Standings) -> None:
    table = wins_table(standings)
    assert table.headings == ("finalist", "1", "2", "3")
    assert [row[0] for row in table.rows] == ["1. full, trial 4", "2. full, uniform soup", "3. zero_shot, default"]
    assert [table.rows[at][at + 1] for at in range(3)] == [NONE] * 3
    for at in range(3):
        for by in {0, 1, 2} - {at}:
            assert str(table.rows[at][by + 1]) == f"{standings.wins[at, by]:.2f}"
            assert table.shades[f"{at},{by + 1}"] == pytest.approx(-table.shades[f"{by},{at + 1}"])
    assert len(table.shades) == 6
    assert table.shades["0,3"] > 0.9
