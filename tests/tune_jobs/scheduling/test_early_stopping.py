import math
import random
from statistics import fmean, median

import pytest

from tune_jobs.config.settings import EarlyStopping, StoppingKind
from tune_jobs.scheduling.early_stopping import MedianRule, StoppingDecisions, decisions_for
from tune_jobs.scheduling.rungs import AshaRungs


def decisions(kind: StoppingKind, *, grace: int = 2, budget: int = 20) -> StoppingDecisions:
    return decisions_for(EarlyStopping(kind=kind, grace=grace), budget=budget)


def fast_and_slow(found: StoppingDecisions) -> list[int]:
    """Trials of two strategies, the slow ones far behind at first; who is left after unit 2."""
    for number in range(12):
        slow = number % 2
        for unit in (1, 2):
            score = (0.1 if slow else 0.5) + number / 1000
            found.goes_on(trial=number, strategy="slow" if slow else "fast", unit=unit, score=score)
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
        found.goes_on(trial=number, strategy="full", unit=1, score=0.9)
    assert not found.goes_on(trial=9, strategy="full", unit=1, score=0.1)
    assert found.stopped == {9: 1}
    # After a restart from an earlier state it comes to the same unit again, perhaps with another score.
    assert found.goes_on(trial=9, strategy="full", unit=0, score=0.1)
    assert not found.goes_on(trial=9, strategy="full", unit=1, score=0.99)
    assert not found.goes_on(trial=9, strategy="full", unit=2, score=0.99)
    # One that went on is not judged a second time by those that came since.
    assert found.goes_on(trial=0, strategy="full", unit=1, score=0.0)
