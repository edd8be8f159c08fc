"""The trials of a sweep as an Optuna study, for dashboards and for Optuna's own evaluations.

It follows the sweep by some seconds and can be rebuilt at any time; the sweep never reads it.
"""

import time
from collections.abc import Sequence

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from handclip_core.errors import InputError
from search_spaces.joint import JointSpace
from tune_jobs.reporting.study_storage import create_study, delete_study, find_study, open_storage, shown
from tune_jobs.search.proposer import directions
from tune_jobs.search.trial_views import frozen
from tune_jobs.state.events import Begun, Ended, Event, Validated
from tune_jobs.state.objectives import objective_values
from tune_jobs.state.trials import Status, Trials, TrialView, score_of

FILE = "study.db"
OWNER = "sweep"
"""The study's attribute that says whose it is."""
CURVE = "curve"
"""The user attribute of the objective by unit, since Optuna takes no intermediate values with several objectives."""
WRITE_EVERY_S, AWAY_S = 2.0, 60.0
"""Seconds between two writes, and after which a database that was away is tried again."""


class StudyExport:
    """Follows a sweep. A database that is away costs the sweep nothing; the study is rebuilt when it is back."""

    def __init__(self, url: str, *, name: str, space: JointSpace, objectives: Sequence[str]) -> None:
        """The study ``name`` in the database at ``url``; nothing is written before ``rebuild``."""
        self._url, self._name, self._space, self._objectives = url, name, space, objectives
        self._study: Study | None = None
        self._open: dict[int, tuple[int, set[int]]] = {}
        """Optuna's id and the units told of each trial that the study does not know as over, by number."""
        self._changed: dict[int, TrialView] = {}
        self._wait_until = 0.0
        self._has_begun = False

    def rebuild(self, all_trials: Trials) -> None:
        """Write the study of all trials anew.

        Raises InputError if the database cannot be opened, or has a study of this name that is another sweep's.
        """
        self._study, self._open, self._changed = None, {}, {}
        found = find_study(self._url, name=self._name)
        if found is not None:
            # A driver that died while it made the study has left it empty and without an owner.
            owner = found.user_attrs.get(OWNER)
            if owner != all_trials.sweep and (owner is not None or found.trials):
                raise taken(self._url, self._name)
            delete_study(found)
        study = create_study(self._url, name=self._name, directions=directions(self._objectives))
        study.set_user_attr(OWNER, all_trials.sweep)
        for view in all_trials.all():
            self._add(study, view)
        self._study, self._has_begun = study, True

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event; if the database is away, say so once and go on without it."""
        if isinstance(event, Begun | Validated | Ended):
            self._changed[event.trial] = all_trials.trials[event.trial]
        if self._changed and time.monotonic() >= self._wait_until:
            self._write(all_trials)

    def close(self, all_trials: Trials) -> None:
        """Write what is left; if that cannot be, say what does it later. Nothing if it was never begun."""
        if not self._has_begun:
            return
        if self._changed or self._study is None:
            self._write(all_trials)
        if self._study is None:
            print("the study lacks trials; add them later with --export", flush=True)

    def _write(self, all_trials: Trials) -> None:
        began, was_away = time.monotonic(), self._study is None
        try:
            if self._study is None:
                self.rebuild(all_trials)
            else:
                for view in self._changed.values():
                    self._bring_up(self._study, view)
            self._changed.clear()
        except (StorageInternalError, SQLAlchemyError, InputError) as error:
            self._study, self._wait_until = None, time.monotonic() + AWAY_S
            if not was_away:
                print(f"the study cannot be written ({_reason(error)}); the sweep goes on without it", flush=True)
            return
        took_s = time.monotonic() - began
        self._wait_until = time.monotonic() + max(WRITE_EVERY_S, 20 * took_s)

    def _add(self, study: Study, view: TrialView) -> None:
        trial = frozen(view, self._space, self._objectives)
        if view.status.over:
            trial.user_attrs |= _outcome(view)
        if len(self._objectives) > 1 and view.curve:
            trial.user_attrs[CURVE] = _by_text(view.curve)
        study.add_trial(trial)
        if not view.status.over:
            added = study.get_trials(deepcopy=False)[-1]
            if added.number != view.number:
                raise InputError(f"study '{self._name}': another process writes to it")
            self._open[view.number] = added._trial_id, set(view.curve)

    def _bring_up(self, study: Study, view: TrialView) -> None:
        """Let the study know all of a trial that it does not know yet."""
        if view.number not in self._open:
            self._add(study, view)
            return
        identity, told = self._open[view.number]
        trial = Trial(study, identity)
        new = {unit: score for unit, score in view.curve.items() if unit not in told}
        if len(self._objectives) == 1:
            for unit, score in new.items():
                trial.report(score, step=unit)
        elif new:
            trial.set_user_attr(CURVE, _by_text(view.curve))
        told.update(new)
        if view.status.over:
            _tell(study, trial, view, self._objectives)
            del self._open[view.number]


def taken(url: str, name: str) -> InputError:
    """The error of a name that another sweep's study has."""
    return InputError(f"{shown(url)}: has a study '{name}' already; choose another --name")


def refuse_taken(url: str, name: str | None) -> None:
    """Raise InputError if the database at ``url`` cannot be opened, or has a study ``name``, if there is one."""
    if name is None:
        open_storage(url)
    elif find_study(url, name=name) is not None:
        raise taken(url, name)


def _tell(study: Study, trial: Trial, view: TrialView, objectives: Sequence[str]) -> None:
    for name, value in _outcome(view).items():
        trial.set_user_attr(name, value)
    match view.status:
        case Status.COMPLETE:
            study.tell(trial, list(objective_values(objectives, view)), skip_if_finished=True)
        case Status.STOPPED:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        case _:
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _outcome(view: TrialView) -> dict[str, object]:
    """What the study says of a trial that is over, as plain values."""
    outcome = {
        "status": str(view.status),
        "unit": view.unit,
        "best_unit": view.best_unit,
        **{name: value if value == value else None for name, value in view.metrics.items()},
        "seconds": round(view.seconds, 3),
        "params_trained": view.params_trained,
        "attempts": view.attempts,
        "micro_batch": view.experiment.micro_batch,
        "seeds": [score_of(seed) for seed in view.seeds],
    }
    return {"outcome": outcome} | ({"reason": view.reason} if view.status is Status.FAILED else {})


def _by_text(curve: dict[int, float]) -> dict[str, float]:
    return {str(unit): score for unit, score in curve.items()}


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]
