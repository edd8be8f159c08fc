"""The trials of a sweep as an Optuna study, in SQLite or PostgreSQL, for dashboards and Optuna's own evaluations.

It follows the sweep by some seconds and can be rebuilt at any time; the sweep never reads it.
"""

import importlib.util
import time
import warnings
from collections.abc import Sequence

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from handclip_core.errors import InputError
from search_spaces.joint import JointSpace
from tune_jobs.search.proposer import directions
from tune_jobs.search.trial_views import STATES, frozen
from tune_jobs.state.events import Begun, Cut, Ended, Event, Moved, Retried, Started, Validated
from tune_jobs.state.objectives import objective_values
from tune_jobs.state.trials import Status, Trials, TrialView

FILE, POSTGRESQL = "study.db", "postgresql"
OWNER = "sweep"
"""The study's attribute that says whose it is."""
CURVE = "curve"
"""The user attribute of the objective by unit, since Optuna takes no intermediate values with several objectives."""
FOLDER, TRIALS = "folder", "trials"
"""The user attribute of a trial's folder, relative to the sweep's, and where those lie."""
NOTE_VERSION, NOTE_TEXT, NOTE_LETTERS = "dashboard:{}:note_ver", "dashboard:{}:note_str:0", 2000
"""The study's attributes in which optuna-dashboard 0.21 looks for the note of a trial, by Optuna's id, and how much one
of them holds."""
WRITE_EVERY_S, AWAY_S = 2.0, 60.0
"""Seconds between two writes, and after which a database that was away is tried again."""


class StudyExport:
    """Follows a sweep. A database that is away costs the sweep nothing; the study is rebuilt when it is back."""

    def __init__(self, url: str, *, name: str, space: JointSpace, objectives: Sequence[str], place: str = "") -> None:
        """The study ``name`` in the database at ``url``; nothing is written before ``rebuild``.

        ``place`` is the URI of the sweep's folder, to which the notes of trials lead.
        """
        self._url, self._name, self._space, self._objectives = url, name, space, objectives
        self._place = place
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
            optuna.delete_study(study_name=self._name, storage=found._storage)
        study = create_study(self._url, name=self._name, directions=directions(self._objectives))
        study.set_user_attr(OWNER, all_trials.sweep)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([*self._objectives] or [all_trials.task.metrics.objective.name])
        for view in all_trials.all():
            self._add(study, view)
        self._study, self._has_begun = study, True

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event; if the database is away, say so once and go on without it."""
        if isinstance(event, Begun | Started | Validated | Retried | Moved | Cut | Ended):
            self._changed[event.trial] = all_trials.trials[event.trial]
        if self._changed and time.monotonic() >= self._wait_until:
            self._write(all_trials)

    def close(self, all_trials: Trials) -> None:
        """Write what is left; if that cannot be, say what does it later. Nothing if it was never begun."""
        if not self._has_begun:
            return
        # Those that a driver leaves behind run no more.
        self._changed |= {number: all_trials.trials[number] for number in self._open}
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
                print(f"the study cannot be written ({_cause(error)}); the sweep goes on without it", flush=True)
            return
        took_s = time.monotonic() - began
        self._wait_until = time.monotonic() + max(WRITE_EVERY_S, 20 * took_s)

    def _add(self, study: Study, view: TrialView) -> None:
        trial = frozen(view, self._space, self._objectives)
        trial.user_attrs[FOLDER] = f"{TRIALS}/{view.name}"
        if view.status.over:
            trial.user_attrs |= _outcome(view)
        else:
            trial.state = _state(view)
        if len(self._objectives) > 1 and view.curve:
            trial.user_attrs[CURVE] = _by_text(view.curve)
        study.add_trial(trial)
        if view.status.over:
            identity = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, view.number)
            self._write_note(study, identity, view)
        else:
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
        storage = study._storage
        if view.status.over:
            storage.set_trial_state_values(identity, TrialState.RUNNING)  # only such a trial can be told its end
            _tell(study, trial, view, self._objectives)
            self._write_note(study, identity, view)
            del self._open[view.number]
        elif storage.get_trial(identity).state is not _state(view):
            storage.set_trial_state_values(identity, _state(view))

    def _write_note(self, study: Study, identity: int, view: TrialView) -> None:
        """What optuna-dashboard shows of a trial that is over, beside its values."""
        text = _note(view, self._place)[:NOTE_LETTERS]
        for name, value in ((NOTE_VERSION, 1), (NOTE_TEXT, text)):
            study._storage.set_study_system_attr(study._study_id, name.format(identity), value)


def _note(view: TrialView, place: str) -> str:
    """What became of a trial and where its files are, in Markdown."""
    folder = f"{TRIALS}/{view.name}"
    link = f"[{folder}]({place}/{folder})" if place else f"`{folder}`"
    reason = " ".join(view.reason.split()).replace("`", "'")
    scored = f", {view.score:.4f} at unit {view.best_unit}" if view.has_score else ""
    lines = [
        f"**{view.arm}**: {view.status}{scored}",
        *([f"`{reason}`"] if view.status is Status.FAILED and reason else []),
        f"Settings, log and weights: {link}",
    ]
    return "\n\n".join(lines)


def _state(view: TrialView) -> TrialState:
    """Whether a trial that is not over runs, or waits for a worker or for the next driver."""
    return TrialState.RUNNING if view.status is Status.RUNNING else TrialState.WAITING


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
    values = list(objective_values(objectives, view)) if view.status is Status.COMPLETE else None
    study.tell(trial, values, state=STATES[view.status], skip_if_finished=True)


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
        "seeds": [view.score_of(seed) for seed in view.seeds],
    }
    return {"outcome": outcome} | ({"reason": view.reason} if view.status is Status.FAILED else {})


def _by_text(curve: dict[int, float]) -> dict[str, float]:
    return {str(unit): score for unit, score in curve.items()}


def open_storage(url: str) -> BaseStorage:
    """The storage at a URL; raises InputError if it cannot be reached."""
    complete = with_driver(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        # A connection that the server has closed meanwhile is noticed and opened again.
        return get_storage(RDBStorage(complete, engine_kwargs={"pool_pre_ping": True}))
    except (SQLAlchemyError, ImportError, StorageInternalError) as error:
        raise InputError(f"{shown(url)}: cannot open the study's database: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def create_study(url: str, *, name: str, directions: Sequence[StudyDirection]) -> Study:
    """A new study; raises InputError if the database cannot be opened, or has one of that name."""
    try:
        return optuna.create_study(
            storage=open_storage(url), study_name=name, directions=directions, sampler=RandomSampler(seed=0)
        )
    except DuplicatedStudyError:
        raise InputError(f"{shown(url)}: has a study '{name}' already") from None


def find_study(url: str, *, name: str) -> Study | None:
    """The study ``name``, if there is one; raises InputError if the database cannot be opened."""
    storage = open_storage(url)
    if name not in [study.study_name for study in storage.get_all_studies()]:
        return None
    return optuna.load_study(storage=storage, study_name=name, sampler=RandomSampler(seed=0))


def with_driver(url: str) -> str:
    """The URL with the driver that this project uses for PostgreSQL; raises InputError if it cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(f"'{url}': not the URL of a database; write postgresql://user@host/base") from None
    if parsed.get_backend_name() != POSTGRESQL:
        return url
    if importlib.util.find_spec("psycopg") is None:
        raise InputError(f"{shown(url)}: PostgreSQL needs the package psycopg; pip install 'psycopg[binary]'")
    return parsed.set(drivername=f"{POSTGRESQL}+psycopg").render_as_string(hide_password=False)


def shown(url: str) -> str:
    """The URL without its password."""
    return make_url(url).render_as_string(hide_password=True)
