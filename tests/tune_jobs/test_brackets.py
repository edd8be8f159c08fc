import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.brackets import RungTable

SCORE = st.one_of(st.integers(0, 6).map(lambda n: n / 6), st.just(math.nan))
REPORT = st.tuples(st.sampled_from(["full", "probe"]), st.integers(0, 5), SCORE)


def table(*, grace: int = 1, reduction: int = 3, budget: int = 30) -> RungTable:
    return RungTable(grace=grace, reduction=reduction, budget=budget)


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
    seen: dict[tuple[str, int], dict[str, float]] = {}
    units: dict[str, int] = {}
    for group, number, score in reports:
        trial = f"{group}-{number}"
        units[trial] = unit = units.get(trial, 0) + 1
        expected = True
        if unit in rungs.rungs:
            at_rung = seen.setdefault((group, unit), {})
            at_rung[trial] = score
            expected = slow_answer(list(at_rung.values()), score, reduction)
        assert rungs.report(group=group, trial=trial, unit=unit, score=score) is expected


def test_a_groups_first_trial_always_goes_on_and_ties_pass() -> None:
    rungs = table()
    assert rungs.report(group="full", trial="a", unit=1, score=0.1)
    assert rungs.report(group="full", trial="b", unit=1, score=0.1)
    assert not rungs.report(group="full", trial="c", unit=1, score=0.05)


def test_groups_never_judge_each_other() -> None:
    rungs = table()
    for number in range(10):
        rungs.report(group="probe", trial=f"p{number}", unit=1, score=0.9)
    assert rungs.report(group="full", trial="f", unit=1, score=0.1)


def test_nan_ends_a_trial_at_a_rung_and_pushes_nobody_out() -> None:
    rungs = table()
    assert not rungs.report(group="full", trial="a", unit=1, score=math.nan)
    assert rungs.report(group="full", trial="b", unit=1, score=0.0)


def test_units_between_rungs_and_the_baselines_unit_zero_are_never_judged() -> None:
    rungs = table(grace=2, budget=8)
    rungs.report(group="full", trial="best", unit=2, score=0.9)
    assert all(rungs.report(group="full", trial="weak", unit=unit, score=0.0) for unit in (0, 1))
    assert not rungs.report(group="full", trial="weak", unit=2, score=0.0)


def test_a_rung_that_was_passed_over_takes_the_next_report() -> None:
    rungs = table()
    rungs.report(group="full", trial="a", unit=1, score=0.5)
    assert not rungs.report(group="full", trial="late", unit=2, score=0.1)
    assert rungs.scores["full"][1] == {"a": 0.5, "late": 0.1}


def test_a_trial_that_restarts_from_a_checkpoint_is_not_judged_twice() -> None:
    rungs = table()
    rungs.report(group="full", trial="a", unit=1, score=0.2)
    for number in range(6):
        rungs.report(group="full", trial=f"better{number}", unit=1, score=0.8)
    assert rungs.report(group="full", trial="a", unit=1, score=0.2)
    assert len(rungs.scores["full"][1]) == 7


def test_the_state_survives_json_and_decides_the_same() -> None:
    rng = random.Random(0)
    rungs = table()
    for number in range(30):
        for unit in (1, 2, 3):
            rungs.report(group="ab"[number % 2], trial=str(number), unit=unit, score=rng.random())
    copy = table()
    copy.load(json.loads(json.dumps(rungs.state())))
    assert copy == rungs
    for number in range(30, 40):
        report = {"group": "a", "trial": str(number), "unit": 1, "score": rng.random()}
        assert copy.report(**report) is rungs.report(**report)  # type: ignore[arg-type]


def run_sweep(curves: dict[str, list[list[float]]], *, shared: bool) -> tuple[float, int]:
    """Best final score reached and units spent, trials of all groups in turn, one at a time."""
    rungs = table(grace=1, reduction=3, budget=len(next(iter(curves.values()))[0]))
    best, spent = 0.0, 0
    for place, row in enumerate(zip(*curves.values(), strict=True)):
        for group, curve in zip(curves, row, strict=True):
            for unit in range(1, len(curve) + 1):
                spent += 1
                if not rungs.report(
                    group="all" if shared else group, trial=f"{group}{place}", unit=unit, score=max(curve[:unit])
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
