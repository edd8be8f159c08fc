from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from handclip_core.errors import InputError
from handclip_core.evaluation.bootstrap import Comparison
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.seeds import compare_seeds, sample_seeds
from tests.tune_jobs.finals.entries import entrant, facts, finalist, scores
from tune_jobs.finals.frames import frames
from tune_jobs.finals.mixtures import Entrant, Recipe
from tune_jobs.finals.past_sweep import Searched
from tune_jobs.finals.ranking import Cost, Standings, Verdict, rank, searched_enough, verdict_of, verdicts

SEARCHED = {"full": Searched(12, 50, 7200.0), "zero_shot": Searched(1, 0, 1.0)}


def test_entrants_are_ranked_by_their_mean_and_held_against_the_first_and_zero_shot() -> None:
    entrants = [
        entrant("zero_shot", 0.9),
        entrant("full", 0.3, trial=4),
        entrant("full", 0.5),
        entrant("adapters", 0.6),
    ]
    standings = rank(entrants)
    means = [row.score.mean for row in standings.rows]
    assert means == sorted(means, reverse=True)
    assert standings.winner.entrant is entrants[1]
    assert standings.winner.gap is None
    second = standings.rows[1]
    expected = compare_seeds(sample_seeds(second.entrant.scores), sample_seeds(entrants[1].scores))
    assert second.gap == expected
    assert standings.wins[1, 0] == expected.probability
    last = standings.rows[-1]
    assert (last.entrant, last.beats_zero_shot) == (entrants[0], None)
    assert standings.winner.beats_zero_shot == standings.wins[0, 3]
    assert standings.winner.others["cmc1"] == pytest.approx(np.mean([one.mean("cmc1") for one in entrants[1].scores]))


def test_baselines_are_held_against_the_winner_over_identities_and_its_seeds() -> None:
    zero_shot, winner = entrant("zero_shot", 0.9), entrant("full", 0.3)
    known = {"pixels": scores(0.9, 7), "hog": scores(0.1, 8)}
    standings = rank([zero_shot, winner], known)
    best, other = standings.baselines
    assert (best.name, best.to_winner.beaten, other.name, other.to_winner.beaten) == ("hog", False, "pixels", True)
    for one in standings.baselines:
        own = sample_seeds([known[one.name]] * 3)
        assert one.gap == compare_seeds(own, sample_seeds(winner.scores))
        assert one.beats_zero_shot == compare_seeds(own, sample_seeds(zero_shot.scores)).probability
        assert one.score.mean == known[one.name].mean("map")
        assert (one.score.sd, one.others["cmc1"]) == (None, known[one.name].mean("cmc1"))
    assert [row.name for row in standings.with_baselines][:2] == ["hog", "full, default"]
    assert standings.winner.entrant is winner, "a baseline wins nothing"


def test_baselines_of_other_queries_are_refused() -> None:
    queries = scores(0.3, 1).queries
    half = {field: getattr(queries, field)[::2] for field in queries.__dataclass_fields__}
    other = replace(scores(0.3, 1), queries=replace(queries, **half))
    with pytest.raises(InputError, match="different queries"):
        rank([entrant("full", 0.3)], {"hog": other})


def test_without_zero_shot_nothing_is_held_against_it() -> None:
    standings = rank([entrant("full", 0.3), entrant("adapters", 0.6)], {"hog": scores(0.5, 1)})
    assert [row.beats_zero_shot for row in standings.with_baselines] == [None, None, None]


@pytest.mark.parametrize(
    ("high", "verdict"), [(-0.001, Verdict.WORSE), (0.0, Verdict.NO_DIFFERENCE), (0.02, Verdict.NO_DIFFERENCE)]
)
def test_only_an_interval_below_zero_makes_a_strategy_worse(high: float, verdict: Verdict) -> None:
    assert verdict_of(Comparison(-0.05, -0.1, high, 0.1, 20), enough=True) is verdict
    assert verdict_of(None, enough=False) is Verdict.WINNER


def test_of_a_strategy_that_was_hardly_searched_nothing_worse_is_said() -> None:
    behind, level = (Comparison(-0.05, -0.1, high, 0.1, 20) for high in (-0.01, 0.01))
    assert verdict_of(behind, enough=False) is Verdict.NOT_SEARCHED
    assert verdict_of(level, enough=False) is Verdict.NO_DIFFERENCE


@pytest.mark.parametrize(
    ("strategy", "trials", "units", "enough"),
    [
        ("full", 10, 30, True),
        ("full", 9, 90, False),
        ("full", 40, 29, False),
        ("zero_shot", 1, 0, True),
        ("zero_shot", 0, 0, False),
        ("whitening", 10, 0, True),
        ("whitening", 1, 0, False),
    ],
)
def test_searched_enough_takes_trials_and_if_it_trains_units(
    strategy: str, trials: int, units: int, enough: bool
) -> None:
    assert searched_enough(strategy, Searched(trials, units), budget=10) is enough


def test_every_strategy_is_judged_at_its_best_with_what_it_cost() -> None:
    entrants = [
        entrant("zero_shot", 0.9, known=facts(images=0, train_s=0.0, cpu_s=0.0, params_trained=0)),
        entrant("full", 0.3, trial=4),
        entrant("full", 0.8),
        entrant("adapters", 0.301, known=facts(params_trained=7)),
    ]
    found = {one.strategy: one for one in verdicts(rank(entrants), SEARCHED, Cost(True, 0.5), budget=10)}
    assert list(found) == ["full", "adapters", "zero_shot"]
    assert found["full"].best.name == "full, trial 4"
    assert (found["full"].verdict, found["zero_shot"].verdict) == (Verdict.WINNER, Verdict.WORSE)
    assert found["adapters"].verdict is Verdict.NO_DIFFERENCE
    assert found["full"].fit_hours == pytest.approx(36 * 0.5 / 3600)
    assert (found["full"].search_hours, found["adapters"].search_hours) == (1.0, 0.0)
    assert (found["full"].images_s, found["zero_shot"].images_s) == (100.0, None)
    assert found["adapters"].params_trained == 7
    assert (found["full"].searched, found["adapters"].searched) == (SEARCHED["full"], Searched())


def test_a_mixture_costs_what_its_members_cost() -> None:
    members = (finalist("full", trial=1), finalist("full", trial=2))
    runs = tuple(scores(0.3, seed) for seed in (1, 2))
    mixed = Entrant("full, uniform soup", Recipe(members), runs, ((facts(), facts()), (facts(), facts())))
    (found,) = verdicts(rank([mixed]), {}, Cost(False, 2.0), budget=10)
    assert found.fit_hours == pytest.approx(2 * 72 / 3600), "CPU seconds count all cores already"
    assert found.images_s == 50.0


def test_a_fusion_is_held_against_the_best_of_its_backbones_and_costs_all_of_its_members() -> None:
    members = (finalist("full", trial=1, backbone="a"), finalist("adapters", trial=2, backbone="b"))
    runs = tuple(scores(0.2, seed) for seed in (1, 2, 3))
    known = ((facts(params_trained=5),) * 3, (facts(params_trained=7),) * 3)
    fused = Entrant("fusion, by score", Recipe(members, fusion=ScoreFusion.of_cosines((0.5, 0.5))), runs, known)
    entrants = [
        entrant("zero_shot", 0.9, backbone="a"), entrant("zero_shot", 0.6, backbone="b"),
        entrant("zero_shot", 0.5, backbone="c"), entrant("full", 0.55, trial=1, backbone="a"), fused,
    ]  # fmt: skip
    standings = rank(entrants)
    assert standings.winner.entrant is fused
    names = [row.name for row in standings.rows]
    assert standings.winner.beats_zero_shot == standings.wins[0, names.index("zero_shot@b, default")]
    assert standings.as_it_is == "CLIP as it is (b)"
    assert standings.untrained is entrants[1].recipe.members[0]
    searched = {"full@a": Searched(12, 50, 3600.0), "adapters@b": Searched(3, 9, 7200.0)}
    cost = Cost(on_gpus=False, each=1.0)
    found = verdicts(standings, searched, cost, budget=10)
    first = found[0]
    assert (first.strategy, first.backbone, first.params_trained) == ("fusion", "a + b", 12)
    assert first.fit_hours == pytest.approx(2 * 72 / 3600)
    assert (first.searched, first.search_hours) == (Searched(15, 59, 10800.0), 3.0)
    assert [one.strategy for one in found] == ["fusion", "zero_shot", "full", "zero_shot", "zero_shot"]
    table = frames(standings, found, cost)["finalists"]
    row = table.iloc[0]
    assert (row["strategy"], row["backbone"], row["kind"], row["trial"]) == ("fusion", "a + b", "fusion", None)
    behind = rank([entrant("full", 0.1, trial=1, backbone="a"), fused])
    verdict = next(one for one in verdicts(behind, searched, cost, budget=10) if one.strategy == "fusion")
    assert verdict.verdict is Verdict.NOT_SEARCHED, "one of its members was hardly searched"
    assert Standings(behind.rows[1:], behind.wins).as_it_is == "CLIP as it is (a)"


def test_cores_are_held_by_the_clock_and_work_by_processor_time() -> None:
    (found,) = verdicts(rank([entrant("full", 0.3)]), SEARCHED, Cost(False, 2.0), budget=10)
    assert found.search_hours == 4.0
    assert found.fit_hours == pytest.approx(72 / 3600)
    (before,) = verdicts(rank([entrant("full", 0.3, known=facts(cpu_s=nan))]), {}, Cost(False, 2.0), budget=10)
    assert isnan(before.fit_hours)
    assert before.images_s is not None
    assert isnan(before.images_s), "runs that did not measure it are not said to have cost nothing"


def test_every_backbone_is_held_against_itself_as_it_is_and_judged_by_strategy() -> None:
    entrants = [
        entrant("zero_shot", 0.9, backbone="a"), entrant("zero_shot", 0.6, backbone="b"),
        entrant("full", 0.5, trial=1, backbone="a"), entrant("full", 0.3, trial=2, backbone="b"),
    ]  # fmt: skip
    standings = rank(entrants, {"hog": scores(0.7, 7)})
    names = ["full@b, trial 2", "full@a, trial 1", "zero_shot@b, default", "zero_shot@a, default"]
    assert [row.name for row in standings.rows] == names
    beats = [row.beats_zero_shot for row in standings.rows]
    assert beats == [standings.wins[0, 2], standings.wins[1, 3], None, None]
    best = sample_seeds(entrants[1].scores)
    (hog,) = standings.baselines
    assert hog.beats_zero_shot == compare_seeds(sample_seeds([scores(0.7, 7)] * 3), best).probability
    searched = {"full@a": Searched(12, 50, 1.0), "full@b": Searched(3, 9, 2.0)}
    found = verdicts(standings, searched, Cost(on_gpus=False, each=1.0), budget=10)
    assert [(one.strategy, one.backbone) for one in found] == [
        ("full", "b"), ("full", "a"), ("zero_shot", "b"), ("zero_shot", "a"),
    ]  # fmt: skip
    assert [one.searched.trials for one in found] == [3, 12, 0, 0]
    assert set(frames(standings, found, Cost(on_gpus=False, each=1.0))["verdict"]["backbone"]) == {"a", "b"}
