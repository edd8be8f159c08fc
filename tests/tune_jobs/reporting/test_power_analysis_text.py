"""The power analysis in words."""

from pathlib import Path

from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, ZeroShot
from tests.tune_jobs.simulated import settings
from tune_jobs.reporting.power_analysis_text import power_analysis_lines, power_analysis_of
from tune_jobs.scheduling.power_analysis import PowerAnalysis
from tune_jobs.state.trial import TrialView
from tune_jobs.state.trials import Trials

FOUND = PowerAnalysis((0.712, 0.705, 0.719, 0.701, 0.708))


def baselines(*scores: float) -> Trials:
    """A zero-shot trial, and one that trained on a seed for each of ``scores``."""
    seeds = [{"map": score} for score in scores]
    untrained = TrialView(0, "zero_shot", {}, Experiment(strategy=ZeroShot()), seeds=[{"map": 0.1}] * 5)
    trained = TrialView(1, "full", {}, Experiment(strategy=Full()), seeds=seeds)
    return Trials({0: untrained, 1: trained})


def test_the_seeds_of_the_first_trial_that_trains_are_told_of_once_there_are_five(tmp_path: Path) -> None:
    asked = settings(tmp_path, trials=14, search={"power_analysis": True, "replicas": 2})
    told = power_analysis_of(baselines(*FOUND.scores), asked)
    assert told == power_analysis_lines("full", FOUND, "mAP", trials=14, replicas=2)
    assert told[0].startswith("full on 5 seeds: validation mAP 0.7090")
    assert power_analysis_of(baselines(*FOUND.scores[:4]), asked) == []
    assert power_analysis_of(Trials(), asked) == []
    unasked = settings(tmp_path, trials=14, search={"replicas": 2})
    assert power_analysis_of(baselines(*FOUND.scores), unasked) == []


def test_a_single_run_and_seed_are_not_told_of_in_the_plural() -> None:
    text = "\n".join(power_analysis_lines("full", FOUND, "mAP", trials=1, replicas=1))
    assert "how 1 run is best spent depends" in text
    assert "the best of 1 equally good configuration would look 0.0000 better" in text
    assert "  1 seed   " in text
    assert ": 1 trial of 1 seed, " in text


def test_each_number_of_seeds_is_told_once_in_ascending_order() -> None:
    lines = power_analysis_lines("full", FOUND, "mAP", trials=4, replicas=3)
    told = [line.split()[0] for line in lines if line.endswith(tuple("0123456789")) and "seed" in line]
    assert told == ["1", "3", "5", "10"]


def test_the_words_carry_the_figures() -> None:
    text = "\n".join(power_analysis_lines("full", FOUND, "mAP", trials=14, replicas=2))
    assert "full on 5 seeds: validation mAP 0.7090, sd 0.0069" in text
    for seeds in (1, 2, 3, 5, 10):
        assert f"{FOUND.smallest_difference(seeds):.4f}" in text
    assert f"would look {FOUND.flattery(14, replicas=2):.4f} better" in text
    assert "how 28 runs are best spent" in text


def test_a_baseline_that_no_seed_changes_is_said_to_be_one() -> None:
    (line,) = power_analysis_lines("zero_shot", PowerAnalysis((0.5, 0.5, 0.5)), "mAP", trials=14, replicas=1)
    assert "seeds make no difference" in line
