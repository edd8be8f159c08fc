"""The trials of a sweep as Optuna studies, in SQLite or PostgreSQL, for dashboards and Optuna's own evaluations.

One study holds all trials; one for each arm holds those of the arm that are over, so that the importance of a
hyperparameter is that within a strategy. They follow the sweep by some seconds and can be rebuilt at any time; the
sweep never reads them.
"""

import json
import shutil
import time
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from io import BytesIO
from mimetypes import guess_type
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from handclip_core.errors import InputError
from search_spaces.joint import JointSpace
from tune_jobs.search.proposer import directions
from tune_jobs.search.trial_views import STATES, frozen_or_refused, within_arm
from tune_jobs.state.events import Begun, Cut, Ended, Event, Moved, Retried, Started, Validated
from tune_jobs.state.objectives import objective_values
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import TRIALS, Trials
from tune_jobs.storage.study_database import cause_of, create_study, in_bulk, open_storage, set_attributes, taken

FILE = "study.db"
ARTIFACTS = "artifacts"
"""The folder of images, below the sweep's, that optuna-dashboard is given as ``--artifact-dir``."""
OWNER = "sweep"
"""The studies' attribute that says whose they are."""
CURVE = "curve"
"""The user attribute of the objective by unit, since Optuna takes no intermediate values with several objectives."""
FOLDER = "folder"
"""The user attribute of a trial's folder, relative to the sweep's."""
TRIAL = "trial"
"""The user attribute of a trial's number in the sweep, since each study has numbers of its own."""
NOTE_VERSION, NOTE_TEXT, NOTE_LETTERS = "dashboard:{}note_ver", "dashboard:{}note_str:0", 2000
"""The study's attributes in which optuna-dashboard 0.21 looks for the note of a trial, by Optuna's id and a colon, or
for that of the study, and how much one of them holds."""
IMAGE = "dashboard:artifacts:{}:{}"
"""The study's attribute of an image beside a trial, by their ids: Optuna itself adds none to a trial that is over."""
WRITE_EVERY_S, AWAY_S = 2.0, 60.0
"""Seconds between two writes, and after which a database that was away is tried again."""


class StudyExport:
    """Follows a sweep. A database that is away costs the sweep nothing; the studies are rebuilt when it is back."""

    def __init__(
        self, url: str, *, name: str, space: JointSpace, objectives: Sequence[str], artifacts: Path, place: str = ""
    ) -> None:
        """The studies ``name`` and ``name/ARM`` in the database at ``url``; nothing is written before ``rebuild``.

        Images go into the folder ``artifacts``. ``place`` is the URI of the sweep's folder, to which notes lead.
        """
        self._url, self._name, self._space, self._objectives = url, name, space, objectives
        self._artifacts, self._place = artifacts, place
        self._study: Study | None = None
        self._open: dict[int, tuple[int, set[int]]] = {}
        """Optuna's id and the units told of each trial that the study does not know as over, by number."""
        self._arms: dict[str, tuple[Study, dict[int, int]]] = {}
        """The study of each arm, and Optuna's ids of its trials by their numbers in the sweep."""
        self._changed: dict[int, TrialView] = {}
        self._images: tuple[int, dict[str, str]] | None = None
        """The trial with images, and what Optuna is to know of each, by its id."""
        self._wait_until = 0.0
        self._has_begun = False

    def rebuild(self, all_trials: Trials) -> None:
        """Write the studies of all trials anew.

        Raises InputError if the database cannot be opened, or has a study of this name that is another sweep's.
        """
        self._study, self._open, self._arms, self._changed = None, {}, {}, {}
        storage = open_storage(self._url)
        self._remove(storage, all_trials.sweep)
        # A loss of power may cost what is being written, and nothing of others.
        with nullcontext() if storage.get_all_studies() else in_bulk(storage):
            study = self._create(storage, self._name, all_trials)
            _write_note(study, "", _about_all(self._name, self._place))
            for view in all_trials.all():
                self._add(study, view)
            self._add_to_arms(study, all_trials.all(), all_trials)
        self._study, self._has_begun = study, True

    def _remove(self, storage: BaseStorage, sweep: str) -> None:
        """Remove the studies of ``sweep``; raises InputError if one of these names is another's."""
        named = [
            found
            for found in storage.get_all_studies()
            if found.study_name == self._name or found.study_name.startswith(f"{self._name}/")
        ]
        for found in named:
            # A driver that died while it made the study has left it empty and without an owner.
            owner = found.user_attrs.get(OWNER)
            if owner != sweep and (owner is not None or storage.get_n_trials(found._study_id)):
                raise taken(self._url, found.study_name)
        for found in named:
            storage.delete_study(found._study_id)

    def _create(self, storage: BaseStorage, name: str, all_trials: Trials) -> Study:
        study = create_study(storage, name=name, directions=directions(self._objectives))
        study.set_user_attr(OWNER, all_trials.sweep)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([*self._objectives] or [all_trials.task.metrics.objective.name])
        return study

    def happened(self, event: Event, all_trials: Trials) -> None:
        """Follow one event; if the database is away, say so once and go on without it."""
        if isinstance(event, Begun | Started | Validated | Retried | Moved | Cut | Ended):
            self._changed[event.trial] = all_trials.trials[event.trial]
        if self._changed and time.monotonic() >= self._wait_until:
            self._write(all_trials)

    def show_images(self, number: int, images: Mapping[str, bytes]) -> None:
        """Show ``images``, by file name, beside a trial from the last write on; no other trial has any."""
        shutil.rmtree(self._artifacts, ignore_errors=True)
        self._artifacts.mkdir(parents=True)
        store, about = FileSystemArtifactStore(self._artifacts), {}
        for name, content in images.items():
            # The same image has the same id when it is written anew, so that a bucket keeps no older ones.
            identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._name}/{name}"))
            store.write(identity, BytesIO(content))
            kind, encoding = guess_type(name)
            known = {"artifact_id": identity, "filename": name, "mimetype": kind, "encoding": encoding}
            about[identity] = json.dumps(known)
        self._images = number, about

    def close(self, all_trials: Trials) -> None:
        """Write what is left; if that cannot be, say what does it later. Nothing if it was never begun."""
        if not self._has_begun:
            return
        # Those that a driver leaves behind run no more.
        self._changed |= {number: all_trials.trials[number] for number in self._open}
        if self._changed or self._images or self._study is None:
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
                self._add_to_arms(self._study, self._changed.values(), all_trials)
            self._write_images()
            self._changed.clear()
        except (StorageInternalError, SQLAlchemyError, InputError) as error:
            self._study, self._wait_until = None, time.monotonic() + AWAY_S
            if not was_away:
                print(f"the study cannot be written ({cause_of(error)}); the sweep goes on without it", flush=True)
            return
        took_s = time.monotonic() - began
        # A slow database gets at most a twentieth of the driver's time.
        self._wait_until = time.monotonic() + max(WRITE_EVERY_S, 20 * took_s)

    def _frozen(self, view: TrialView) -> FrozenTrial:
        """All that the studies say of a trial."""
        trial = frozen_or_refused(view, self._space, self._objectives)
        trial.user_attrs[FOLDER] = f"{TRIALS}/{view.name}"
        if view.status.over:
            trial.user_attrs |= _outcome(view)
            trial.datetime_complete = _moment(view.ended_at)
            trial.datetime_start = _moment(view.started_at or view.ended_at)
        else:
            trial.state = _state(view)
            trial.datetime_start = _moment(view.started_at) if view.started_at else None
        if len(self._objectives) > 1 and view.curve:
            trial.user_attrs[CURVE] = _by_text(view.curve)
        return trial

    def _add(self, study: Study, view: TrialView) -> None:
        study.add_trial(self._frozen(view))
        if view.status.over:
            self._write_trial_note(study, _id_of(study, view.number), view)
        else:
            added = study.get_trials(deepcopy=False)[-1]
            # Optuna numbers trials itself: as the sweep does, as long as nobody else adds any.
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
            self._write_trial_note(study, identity, view)
            del self._open[view.number]
        elif storage.get_trial(identity).state is not _state(view):
            storage.set_trial_state_values(identity, _state(view))

    def _add_to_arms(self, study: Study, views: Iterable[TrialView], all_trials: Trials) -> None:
        """Add those of ``views`` that are over to the studies of their arms, in the order of their ends."""
        over = sorted((view for view in views if view.status.over and view.params), key=lambda view: view.ended_at)
        for view in over:
            if view.arm not in self._arms:
                named = self._create(study._storage, f"{self._name}/{view.arm}", all_trials)
                _write_note(named, "", _about_arm(view.arm))
                self._arms[view.arm] = named, {}
            arm, ids = self._arms[view.arm]
            trial = within_arm(self._frozen(view), view.arm)
            trial.user_attrs[TRIAL] = view.number
            arm.add_trial(trial)
            # Optuna numbers them in the order in which they are added.
            ids[view.number] = _id_of(arm, len(ids))

    def _write_trial_note(self, study: Study, identity: int, view: TrialView) -> None:
        """What optuna-dashboard shows of a trial that is over, beside its values."""
        _write_note(study, f"{identity}:", _note(view, self._place))

    def _write_images(self) -> None:
        if self._images is None or self._study is None:
            return
        number, about = self._images
        places = [(self._study, _id_of(self._study, number))]
        places += [(study, ids[number]) for study, ids in self._arms.values() if number in ids]
        for study, trial in places:
            for identity, known in about.items():
                study._storage.set_study_system_attr(study._study_id, IMAGE.format(trial, identity), known)


def _id_of(study: Study, number: int) -> int:
    return int(study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at)


def _write_note(study: Study, of: str, text: str) -> None:
    """The note ``of`` the study itself, or of a trial of it."""
    for name, value in ((NOTE_VERSION, 1), (NOTE_TEXT, text[:NOTE_LETTERS])):
        study._storage.set_study_system_attr(study._study_id, name.format(of), value)


def _about_all(name: str, place: str) -> str:
    report = f" The report: [report.html]({place}/report.html)." if place else ""
    return (
        "All trials of the sweep. Hyperparameters of different strategies cannot be compared: for the importance of "
        f"those of one, see the study `{name}/STRATEGY`.{report}"
    )


def _about_arm(arm: str) -> str:
    return (
        f"The trials of {arm} that are over, numbered anew; the attribute `{TRIAL}` is the number in the sweep. "
        "Importances count complete trials alone; the sweep's report counts those too that were stopped early."
    )


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


def _tell(study: Study, trial: Trial, view: TrialView, objectives: Sequence[str]) -> None:
    set_attributes(study._storage, trial._trial_id, _outcome(view))
    values = list(objective_values(objectives, view)) if view.status is Status.COMPLETE else None
    study.tell(trial, values, state=STATES[view.status], skip_if_finished=True)


def _outcome(view: TrialView) -> dict[str, object]:
    """What the study says of a trial that is over, an attribute each; what was not measured is left out."""
    outcome = {
        "status": str(view.status),
        "unit": view.unit,
        "best_unit": view.best_unit,
        **view.metrics,
        "seconds": round(view.seconds, 3),
        "params_trained": view.params_trained,
        "attempts": view.attempts,
        "micro_batch": view.experiment.micro_batch,
        "seeds": [view.score_of(seed) for seed in view.seeds] or None,
        "reason": view.reason if view.status is Status.FAILED else None,
    }
    # Attributes are stored as JSON, which has no NaN.
    return {name: value for name, value in outcome.items() if value is not None and value == value}


def _by_text(curve: dict[int, float]) -> dict[str, float]:
    return {str(unit): score for unit, score in curve.items()}
