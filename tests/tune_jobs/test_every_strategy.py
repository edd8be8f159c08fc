"""Every strategy in one sweep; the one whose first units have no scores is killed, then interrupted, amid them."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from ray import cloudpickle

from handclip_core.engine.phase import Phase
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import ExperimentContext
from handclip_core.runs.experiment import assemble, run
from handclip_core.runs.run_folder import read_log
from tests.limits import LIMIT_S
from tests.tune_jobs.test_sweep import table, tiny
from tune_jobs.config.settings import EarlyStopping, SweepSettings, load_settings
from tune_jobs.execution import tune_run
from tune_jobs.execution.trainable import HandTrial
from tune_jobs.lifecycle import build as session
from tune_jobs.lifecycle import run as driver
from tune_jobs.lifecycle.run import Outcome, resume, sweep
from tune_jobs.scheduling.early_stopping import AshaRungs, MedianRule, StoppingDecisions, decisions_for
from tune_jobs.state.events import Closed, Event, Retried, Saved, Trained, Validated
from tune_jobs.state.journal import FILE, read_journal
from tune_jobs.state.trial import Status, TrialView

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NAME = "clip_reid"
DISTURBED = 0
"""The number of the default of clip_reid, which comes first."""
STRATEGIES = tuple(sorted(SweepSettings().strategies, key=lambda name: name != NAME))
OTHER_POINT = {"strategy": NAME, "prompts/share": 0.3, "prompts/optim/batch_size": 16}
TRIALS = len(STRATEGIES) + 3
BUDGET = 8
KILLED_AFTER, INTERRUPTED_AFTER = 2, 4
"""Units amid the prompts."""


class KilledAndStuck(HandTrial):
    """Loses its process amid the prompts; at the next attempt it hangs there, which is when the driver is interrupted.

    Either happens once the journal knows that the state is saved.
    """

    def step(self) -> dict[str, Any]:
        if self._is_after(KILLED_AFTER, attempt=0):
            self._wait_until_saved(KILLED_AFTER)
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_after(INTERRUPTED_AFTER, attempt=1):
            time.sleep(LIMIT_S)
        return super().step()

    def _is_after(self, unit: int, *, attempt: int) -> bool:
        is_it = self.config["number"] == DISTURBED and self.config["attempt"] == attempt
        return is_it and self._last is not None and self._last.unit == unit

    def _wait_until_saved(self, unit: int) -> None:
        end = time.monotonic() + LIMIT_S
        while not has_saved(Path(self._storage.experiment_fs_path).parent, unit) and time.monotonic() < end:
            time.sleep(0.02)


class OnceSaved(threading.Event):
    """Set, as by a signal, once the state at the unit of the interruption is saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def is_set(self) -> bool:
        return has_saved(self.folder, INTERRUPTED_AFTER)


@dataclass
class Noting:
    """A rule that notes which units of which trials it is told of."""

    rule: AshaRungs | MedianRule
    told: set[tuple[int, int]]

    def report(self, *, group: str, trial: int, unit: int, score: float) -> bool:
        self.told.add((trial, unit))
        return self.rule.report(group=group, trial=trial, unit=unit, score=score)


@dataclass(frozen=True)
class Swept:
    """A sweep that was disturbed, taken up again and ended; what it told its rule of early stopping."""

    interrupted: Outcome
    outcome: Outcome
    told: set[tuple[int, int]]

    @property
    def events(self) -> list[Event]:
        return read_journal(self.outcome.folder / FILE)

    @property
    def disturbed(self) -> TrialView:
        return self.outcome.all_trials.trials[DISTURBED]

    def log(self, view: TrialView) -> list[dict[str, Any]]:
        (path,) = (self.outcome.folder / "trials" / view.name).glob("*/training_log.csv")
        return read_log(path)


def has_saved(folder: Path, unit: int) -> bool:
    events = of_trial(read_journal(folder / FILE), DISTURBED)
    return any(isinstance(event, Saved) and event.unit == unit for event in events)


def is_of_trial(event: Event, number: int) -> bool:
    return getattr(event, "trial", None) == number


def of_trial(events: Sequence[Event], number: int) -> list[Event]:
    return [event for event in events if is_of_trial(event, number)]


def units_of(events: Sequence[Event]) -> list[Trained | Validated]:
    return [event for event in events if isinstance(event, Trained | Validated)]


def phases_of(view: TrialView, context: ExperimentContext) -> tuple[Phase, ...]:
    return assemble(view.experiment, context).phases


@pytest.fixture(scope="module")
def swept(
    ray_cluster: None, tiny_backbones: dict[str, BackboneSettings], tmp_path_factory: pytest.TempPathFactory
) -> Swept:
    """A sweep over all strategies there are, another point of clip_reid and two drawn trials."""
    del ray_cluster
    told = set[tuple[int, int]]()
    storage = tmp_path_factory.mktemp("every")
    folder = storage / "tiny"
    settings = tiny(
        tiny_backbones,
        storage,
        strategies=STRATEGIES,
        trials=TRIALS,
        budget=BUDGET,
        early_stopping=EarlyStopping(grace=1, reduction=2),
        search={"points": [OTHER_POINT]},
        checkpoint_every_s=0.0,
    )

    def noting_judge(*args: Any, **options: Any) -> StoppingDecisions:
        decisions = decisions_for(*args, **options)
        decisions.rule = Noting(decisions.rule, told)  # type: ignore[assignment]
        return decisions

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "decisions_for", noting_judge)
        with patch.context() as first:
            first.setattr(tune_run, "HandTrial", KilledAndStuck)
            first.setattr(driver, "stop_on_signals", lambda: nullcontext(OnceSaved(folder)))
            interrupted = sweep(settings)
        return Swept(interrupted, resume(load_settings(folder / "sweep.yaml"), folder), told)


def test_every_strategy_there_is_comes_to_the_leaderboard_and_no_trial_fails(swept: Swept) -> None:
    rows = table(swept.outcome.folder)
    assert swept.outcome.exit_code == 0
    assert {row["strategy"] for row in rows} == set(STRATEGIES)
    assert sorted(int(row["trial"]) for row in rows) == list(range(TRIALS))
    assert {row["status"] for row in rows} <= {"complete", "stopped"}
    assert all(row["rank"] for row in rows)


def test_every_strategys_default_goes_through_all_of_its_phases(swept: Swept, tiny_context: ExperimentContext) -> None:
    defaults = [view for view in swept.outcome.all_trials.all() if view.origin == "default"]
    assert tuple(view.strategy for view in defaults) == STRATEGIES
    for view in defaults:
        planned = [str(phase.name) for phase in phases_of(view, tiny_context)]
        logged = list(dict.fromkeys(row["phase"] for row in swept.log(view)))
        assert (view.status, logged) == (Status.COMPLETE, planned or ["none"]), view.name


def test_a_trial_that_is_disturbed_amid_units_without_scores_goes_on_there(swept: Swept) -> None:
    assert swept.interrupted.exit_code == 130
    own = [event for event in swept.events if isinstance(event, Closed) or is_of_trial(event, DISTURBED)]
    breaks = [place for place, event in enumerate(own) if isinstance(event, Retried | Closed)]
    parts = [own[start:end] for start, end in zip([0, *breaks], [*breaks, len(own)], strict=True)]
    units = [[event.unit for event in units_of(part)] for part in parts]
    saved = [[event.unit for event in part if isinstance(event, Saved)] for part in parts]
    assert units == saved == [[1, 2], [3, 4], [5, 6, 7, 8], []]
    assert all(isinstance(event, Trained) for part in parts[:2] for event in units_of(part))
    assert [row["unit"] for row in swept.log(swept.disturbed)] == list(range(1, BUDGET + 1))
    assert swept.disturbed.attempts == 3
    assert {event.trial for event in swept.events if isinstance(event, Retried)} == {DISTURBED}


def test_disturbed_trials_score_as_if_nothing_had_happened(swept: Swept) -> None:
    disturbed = [view for view in swept.outcome.all_trials.all() if view.attempts > 1]
    assert swept.disturbed in disturbed
    for view in disturbed:
        alone = run(view.experiment, device=torch.device("cpu"))
        curve = {progress.unit: progress.metrics["map"] for progress in alone if progress.evaluated}
        assert view.curve == {unit: curve[unit] for unit in view.curve}
        assert view.score == max(view.curve.values())


def test_units_without_scores_are_told_apart_and_reach_neither_study_nor_rungs(
    swept: Swept, tiny_context: ExperimentContext
) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{swept.outcome.folder / 'study.db'}")
    for view in swept.outcome.all_trials.all():
        units = units_of(of_trial(swept.events, view.number))
        trained = {event.unit for event in units if isinstance(event, Trained)}
        validated = {event.unit for event in units if isinstance(event, Validated)}
        unevaluated = {str(phase.name) for phase in phases_of(view, tiny_context) if not phase.evaluate}
        assert trained == {row["unit"] for row in swept.log(view) if row["phase"] in unevaluated}
        assert bool(trained) == bool(unevaluated)
        assert not trained & validated
        assert set(study.trials[view.number].intermediate_values) == set(view.curve) == validated
    evaluated = {(event.trial, event.unit) for event in swept.events if isinstance(event, Validated) and not event.done}
    assert swept.told == evaluated
