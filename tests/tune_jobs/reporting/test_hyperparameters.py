from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handclip_core.runs.experiment import Experiment
from tests.tune_jobs.made_up import MadeUpSweep
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.hyperparameters import FEWEST, MOST_AXES, hyperparameters
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.search.proposer import Proposal
from tune_jobs.search.trial_views import by_path

SETTINGS = SweepSettings(strategies=("zero_shot", "linear_probe"))


def searched(num: int) -> SweepRecord:
    """Trials of the linear probe at random, whose score is a function of the learning rate alone."""
    sweep, random = MadeUpSweep(), np.random.default_rng(0)
    space = SETTINGS.search.space(SETTINGS.strategies, SETTINGS.task)
    for _ in range(num):
        draft = space.draw("linear_probe", lambda _, part: part.to_external_repr(_any(part, random)))
        params = by_path("linear_probe", draft.params)
        trial = sweep.begin(Proposal(Experiment(strategy=draft.strategy), params, "sampled"))
        rate = params["strategy/optim/lr"]
        assert isinstance(rate, float)
        sweep.complete(trial, 0.5 - 0.05 * abs(float(np.log10(rate)) + 2))
    return SweepRecord(Path("made-up"), Path("made-up"), SETTINGS, sweep.events)


def _any(part: object, random: np.random.Generator) -> float:
    """A random value as Optuna stores it."""
    choices = getattr(part, "choices", None)
    if choices is not None:
        return float(random.integers(len(choices)))
    low, high = float(part.low), float(part.high)  # type: ignore[attr-defined]
    if getattr(part, "log", False):
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    return float(round(random.uniform(low, high))) if isinstance(low, int) else float(random.uniform(low, high))


def test_what_decides_comes_first_within_its_strategy() -> None:
    rates, importance, axes = hyperparameters(searched(60)).figures
    assert [trace["name"] for trace in rates.data] == ["linear_probe"]
    assert rates.layout["xaxis"]["type"] == "log"
    bars = importance.data[0]
    assert bars["y"][-1] == "optim/lr"
    assert bars["x"] == sorted(bars["x"])
    assert "optim/lr" in axes.data[-1]["x"][0]
    assert len({name for name in axes.data[0]["x"] if name}) <= MOST_AXES


def test_few_trials_say_nothing_but_their_rates() -> None:
    few = hyperparameters(searched(FEWEST - 1))
    assert len(few.figures) == 1
    said = f"take {FEWEST} of its trials with a score; linear_probe has {FEWEST - 1}. Go on with: "
    assert said in few.missing
    assert few.missing.endswith("tune_jobs/sweep.py made-up --extend 20")
    assert "trials with a score. Go on with" in hyperparameters(searched(0)).missing
    assert hyperparameters(searched(FEWEST)).missing == ""


def test_trials_of_another_space_have_no_importance_and_that_is_said() -> None:
    sweep = searched(12)
    search = SETTINGS.search.model_copy(update={"ranges": {"optim/lr": (1e-3, 1.1e-3)}})
    section = hyperparameters(replace(sweep, settings=SETTINGS.model_copy(update={"search": search})))
    said = "No importance of linear_probe, whose trials were drawn from another space (linear_probe/optim/lr: "
    assert section.missing.startswith(said)
    assert len(section.figures) == 2


@pytest.mark.parametrize("fifth", range(5))
def test_lines_are_split_into_fifths_by_score(fifth: int) -> None:
    axes = hyperparameters(searched(20)).figures[-1]
    assert sum(name is None for name in axes.data[fifth]["x"]) == 4
