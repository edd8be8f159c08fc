import math
import random
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.config.settings import EarlyStopping, StoppingKind
from tune_jobs.scheduling.early_stopping import AshaRungs, MedianRule, StoppingDecisions, decisions_for


def decisions(kind: StoppingKind, *, grace: int = 2, budget: int = 20) -> StoppingDecisions:
    return decisions_for(EarlyStopping(kind=kind, grace=grace), budget=budget)


def fast_and_slow(found: StoppingDecisions) -> list[int]:
    """Trials of two strategies, the slow ones far behind at first; who is left after unit 2."""
    for number in range(12):
        slow = number % 2
        for unit in (1, 2):
            score = (0.1 if slow else 0.5) + number / 1000
            found.goes_on(trial=number, arm="slow" if slow else "fast", unit=unit, score=score)
    return [number for number in range(12) if number not in found.stopped]


def test_rungs_a_strategy_keep_the_best_of_each_and_shared_ones_only_the_fast() -> None:
    assert {number % 2 for number in fast_and_slow(decisions(StoppingKind.PER_STRATEGY))} == {0, 1}
    assert {number % 2 for number in fast_and_slow(decisions(StoppingKind.ASHA))} == {0}
    assert {number % 2 for number in fast_and_slow(decisions(StoppingKind.MEDIAN))} == {0, 1}


def test_without_early_stopping_nobody_is_stopped() -> None:
    assert fast_and_slow(decisions(StoppingKind.NONE)) == list(range(12))
    rule = decisions(StoppingKind.NONE).rule
    assert isinstance(rule, AshaRungs)
    assert rule.rungs == ()


def test_the_median_rule_equals_its_definition() -> None:
    rng = random.Random(0)
    rule, seen = MedianRule(grace=3, others=3), dict[int, list[float]]()
    for unit in range(1, 8):
        for trial in range(9):
            if len(seen.get(trial, ())) < unit - 1:
                continue
            best = max(rng.random(), seen[trial][-1] if trial in seen else 0)
            others = [
                fmean(scores[:unit]) for number, scores in seen.items() if number != trial and len(scores) >= unit
            ]
            seen.setdefault(trial, []).append(best)
            expected = unit < 3 or len(others) < 3 or best >= median(others)
            assert rule.report(group="g", trial=trial, unit=unit, score=best) is expected


def test_the_median_rule_ends_what_has_no_score_and_is_not_moved_by_it() -> None:
    rule = MedianRule(grace=1, others=1)
    assert not rule.report(group="g", trial=0, unit=1, score=math.nan)
    assert rule.report(group="g", trial=1, unit=1, score=0.1)
    assert not rule.report(group="g", trial=2, unit=1, score=0.05)


@pytest.mark.parametrize("kind", [StoppingKind.PER_STRATEGY, StoppingKind.MEDIAN])
def test_a_decision_is_taken_once_and_kept(kind: StoppingKind) -> None:
    found = decisions(kind, grace=1)
    for number in range(6):
        found.goes_on(trial=number, arm="full", unit=1, score=0.9)
    assert not found.goes_on(trial=9, arm="full", unit=1, score=0.1)
    assert found.stopped == {9: 1}
    # After a restart from an earlier state it comes to the same unit again, perhaps with another score.
    assert found.goes_on(trial=9, arm="full", unit=0, score=0.1)
    assert not found.goes_on(trial=9, arm="full", unit=1, score=0.99)
    assert not found.goes_on(trial=9, arm="full", unit=2, score=0.99)
    # One that went on is not judged a second time by those that came since.
    assert found.goes_on(trial=0, arm="full", unit=1, score=0.0)


SCORE = st.one_of(st.integers(0, 6).map(lambda n: n / 6), st.just(math.nan))
REPORT = st.tuples(st.sampled_from(["full", "probe"]), st.integers(0, 5), SCORE)


def table(*, grace: int = 1, reduction: int = 3, budget: int = 30) -> AshaRungs:
    return AshaRungs(grace=grace, reduction=reduction, budget=budget)


def slow_answer(seen: list[float], own: float, reduction: int) -> bool:
    """By sorting: a trial goes on where its place, ties shared, is among the first n / reduction, or is the first."""
    if math.isnan(own):
        return False
    ordered = sorted((score for score in seen if not math.isnan(score)), reverse=True)
    place = ordered.index(own) + 1
    return place <= math.ceil(len(seen) / reduction)


@pytest.mark.parametrize(
    ("grace", "reduction", "budget", "rungs"),
    [(1, 3, 30, (1, 3, 9, 27)), (2, 3, 8, (2, 6)), (2, 2, 16, (2, 4, 8)), (8, 3, 8, ()), (1, 4, 1, ())],
)
def test_rungs_stand_a_factor_apart_below_the_budget(
    grace: int, reduction: int, budget: int, rungs: tuple[int, ...]
) -> None:
    assert table(grace=grace, reduction=reduction, budget=budget).rungs == rungs


@given(reports=st.lists(REPORT, max_size=40), reduction=st.integers(2, 4))
def test_decisions_equal_a_slow_simulation(reports: list[tuple[str, int, float]], reduction: int) -> None:
    rungs = table(grace=1, reduction=reduction, budget=20)
    seen: dict[tuple[str, int], dict[int, float]] = {}
    units: dict[int, int] = {}
    for group, number, score in reports:
        trial = number + 10 * (group == "probe")
        units[trial] = unit = units.get(trial, 0) + 1
        expected = True
        if unit in rungs.rungs:
            at_rung = seen.setdefault((group, unit), {})
            at_rung[trial] = score
            expected = slow_answer(list(at_rung.values()), score, reduction)
        assert rungs.report(group=group, trial=trial, unit=unit, score=score) is expected


def test_a_groups_first_trial_always_goes_on_and_ties_pass() -> None:
    rungs = table()
    assert rungs.report(group="full", trial=0, unit=1, score=0.1)
    assert rungs.report(group="full", trial=1, unit=1, score=0.1)
    assert not rungs.report(group="full", trial=2, unit=1, score=0.05)


def test_groups_never_judge_each_other() -> None:
    rungs = table()
    for number in range(10):
        rungs.report(group="probe", trial=number, unit=1, score=0.9)
    assert rungs.report(group="full", trial=99, unit=1, score=0.1)


def test_nan_ends_a_trial_at_a_rung_and_pushes_nobody_out() -> None:
    rungs = table()
    assert not rungs.report(group="full", trial=0, unit=1, score=math.nan)
    assert rungs.report(group="full", trial=1, unit=1, score=0.0)


def test_units_between_rungs_and_the_baselines_unit_zero_are_never_judged() -> None:
    rungs = table(grace=2, budget=8)
    rungs.report(group="full", trial=0, unit=2, score=0.9)
    assert all(rungs.report(group="full", trial=1, unit=unit, score=0.0) for unit in (0, 1))
    assert not rungs.report(group="full", trial=1, unit=2, score=0.0)


def test_a_rung_that_was_passed_over_takes_the_next_report() -> None:
    rungs = table()
    rungs.report(group="full", trial=0, unit=1, score=0.5)
    assert not rungs.report(group="full", trial=1, unit=2, score=0.1)
    assert rungs.scores["full"][1] == {0: 0.5, 1: 0.1}


def test_a_trial_that_restarts_from_a_checkpoint_is_not_judged_twice() -> None:
    rungs = table()
    rungs.report(group="full", trial=0, unit=1, score=0.2)
    for number in range(6):
        rungs.report(group="full", trial=number + 1, unit=1, score=0.8)
    assert rungs.report(group="full", trial=0, unit=1, score=0.2)
    assert len(rungs.scores["full"][1]) == 7


def run_sweep(curves: dict[str, list[list[float]]], *, shared: bool) -> tuple[float, int]:
    """Best final score reached and units spent, trials of all groups in turn, one at a time."""
    rungs = table(grace=1, reduction=3, budget=len(next(iter(curves.values()))[0]))
    best, spent = 0.0, 0
    for place, row in enumerate(zip(*curves.values(), strict=True)):
        for side, (group, curve) in enumerate(zip(curves, row, strict=True)):
            for unit in range(1, len(curve) + 1):
                spent += 1
                if not rungs.report(
                    group="all" if shared else group, trial=2 * place + side, unit=unit, score=max(curve[:unit])
                ):
                    break
            else:
                best = max(best, curve[-1])
    return best, spent


def test_rungs_a_strategy_keep_slow_starters_that_shared_rungs_kill() -> None:
    rng = random.Random(1)

    def curve(start: float, end: float) -> list[float]:
        return [start + (end - start) * unit / 27 + rng.gauss(0, 0.002) for unit in range(1, 28)]

    fast = [curve(0.50 + rng.random() / 20, 0.60) for _ in range(12)]
    slow = [curve(0.30 + quality / 10, 0.70 + quality / 5) for quality in [rng.random() for _ in range(12)]]
    curves = {"fast": fast, "slow": slow}
    everything = sum(len(curve) for group in curves.values() for curve in group)
    shared, _ = run_sweep(curves, shared=True)
    apart, spent = run_sweep(curves, shared=False)
    assert shared < 0.65 < 0.80 < apart
    assert spent < 0.75 * everything
