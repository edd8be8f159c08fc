"""CMA-ES with plain notes: the same draws as Optuna's own, which pickles, and no code of anybody's from a note."""

import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial, create_trial

from tests.payload import Payload
from tune_jobs.search.cma_es import STATE, PlainCmaEsSampler

SPACE: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y", "z")}


def history(kind: type[CmaEsSampler], trials: int, notes: dict[str, Any] | None = None) -> list[FrozenTrial]:
    """Trials drawn one after another, each by a fresh sampler, as a sweep does; ``notes`` are put into the first."""
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = kind(seed=number, n_startup_trials=1)
        trial = study.ask(SPACE)
        if notes and not number:
            for key, value in notes.items():
                study._storage.set_trial_system_attr(trial._trial_id, key, value)
        study.tell(trial, -sum((trial.params[name] - 0.7) ** 2 for name in SPACE))
    return study.trials


def test_the_draws_are_those_of_optunas_own() -> None:
    plain, pickled = history(PlainCmaEsSampler, 40), history(CmaEsSampler, 40)
    # The pickle holds half of the covariance, whose other half differs in the last digit.
    assert [trial.params for trial in plain] == [pytest.approx(trial.params, rel=1e-6) for trial in pickled]
    assert sum(trial.value or 0 for trial in plain[30:]) > sum(trial.value or 0 for trial in plain[:10])


def test_notes_hold_text_and_numbers_alone() -> None:
    notes = [trial.system_attrs for trial in history(PlainCmaEsSampler, 20)]
    assert any(STATE in note for note in notes)
    assert not any("optimizer" in key for note in notes for key in note)


@pytest.mark.parametrize("key", ["cma:optimizer:0", STATE])
def test_a_pickle_in_a_note_is_not_opened(tmp_path: Path, key: str) -> None:
    payload = pickle.dumps(Payload(tmp_path / "mark")).hex()
    assert len(history(PlainCmaEsSampler, 3, {key: payload})) == 3
    assert not (tmp_path / "mark").exists()


def test_optunas_own_would_have_opened_it(tmp_path: Path) -> None:
    payload = pickle.dumps(Payload(tmp_path / "mark")).hex()
    history(CmaEsSampler, 3, {"cma:optimizer:0": payload})
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("note", ["5", "{}", "[]", '{"_mean": "x"}', "not JSON", 7, None])
def test_a_note_that_is_no_state_is_not_used(note: Any) -> None:
    assert [trial.params for trial in history(PlainCmaEsSampler, 4, {STATE: note})] == [
        trial.params for trial in history(PlainCmaEsSampler, 4)
    ]


def test_a_state_of_another_width_is_not_used() -> None:
    study = optuna.create_study(direction="maximize")
    trial = create_trial(
        params={"x": 0.5},
        distributions={"x": SPACE["x"]},
        value=1.0,
        system_attrs={STATE: history(PlainCmaEsSampler, 20)[-1].system_attrs.get(STATE, "{}")},
    )
    study.add_trial(trial)
    study.sampler = PlainCmaEsSampler(seed=1, n_startup_trials=1)
    assert 0 <= study.ask({"x": SPACE["x"]}).params["x"] <= 1
