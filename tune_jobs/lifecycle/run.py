"""From settings to a finished sweep: the one process that asks, records and decides."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ray import tune

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_bench
from handclip_core.runs.run_folder import write_text
from tune_jobs.config.settings import SETTINGS, StoppingKind, SweepSettings, dump_settings, load_settings
from tune_jobs.execution import cluster
from tune_jobs.execution.callback import TRIALS
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.monitor import Guard
from tune_jobs.execution.nodes import RayMachines
from tune_jobs.execution.ray_job import in_ray_job, submission_id, why_ended
from tune_jobs.execution.signals import Interrupted, caught_signals, terminable
from tune_jobs.execution.train_fn import train_trial
from tune_jobs.execution.trainable import HandTrial, folder_of
from tune_jobs.lifecycle.build import BEST, Session, refuse_damaged, session
from tune_jobs.lifecycle.export_best import collect
from tune_jobs.lifecycle.folders import create_folder, refuse_taken_name, refuse_unknown_sweep, resolved
from tune_jobs.lifecycle.fork import fork
from tune_jobs.lifecycle.mixtures import mixtures
from tune_jobs.reporting import summary as review
from tune_jobs.reporting.leaderboard import FILE, write_leaderboard
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory
from tune_jobs.search.study_storage import open_storage
from tune_jobs.state.objectives import FRONT, front_csv, pareto_front
from tune_jobs.state.trials import Records
from tune_jobs.storage.lease import SweepLock
from tune_jobs.storage.location import Bucket, Place, opened, place_of
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.sync import take_down

INTERRUPTED = "interrupted"
MOST = 10_000
"""Trials at a time that Tune itself allows; how many there really are is the searcher's to say."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended; ``folder`` holds all that it left."""

    folder: Path
    records: Records
    reason: str
    """Why it ended before its last trial: ``interrupted``, or the limit; empty where it did not."""
    avoided: tuple[str, ...] = ()
    """Machines that trials kept clear of at its end."""

    @property
    def exit_code(self) -> int:
        """0 with a result, 130 where it was interrupted, 1 where no trial has a score."""
        if self.reason == INTERRUPTED:
            return 130
        return 1 if self.records.winner is None else 0


def sweep(settings: SweepSettings, *, number_taken_names: bool = False, forked: Path | None = None) -> Outcome:
    """Run a new sweep to its end; raises InputError, before anything is written, where it cannot begin.

    A folder that exists already is refused, or with ``number_taken_names`` the name gets the next free number. Trials
    of the sweep in the folder ``forked`` are taken over where these settings leave them as they are.
    """
    settings = resolved(settings, in_ray_job=in_ray_job())
    refuse_taken_name(settings, number_taken_names=number_taken_names)
    if settings.warm_start is not None:
        refuse_unknown_sweep(settings.warm_start, option="warm_start")
    # A database that does not answer is a reason not to make a folder for the sweep.
    open_storage(settings.search.storage)
    taken = None if forked is None else fork(forked, load_settings(forked / SETTINGS), settings)
    room = prepare(settings)
    fill = None if taken is None else taken.fill
    folder = create_folder(settings, number_taken_names=number_taken_names, fill=fill)
    where = place_of(settings.storage, folder)
    review.say(f"sweeping into {review.shown(where)}")
    stopping = settings.early_stopping
    if stopping.kind is not StoppingKind.NONE and stopping.grace >= settings.budget:
        print(f"no trial is stopped early: early_stopping.grace is {stopping.grace}, the budget {settings.budget}")
    for line in () if taken is None else taken.lines():
        print(line, flush=True)
    with SweepLock(where, job=submission_id()) as lock:
        return _run(settings.model_copy(update={"name": folder.name}), room, folder, lock)


def resume(settings: SweepSettings, folder: Path) -> Outcome:
    """Take the sweep in ``folder`` up where it ended or died; raises InputError where its state cannot be read.

    Of a sweep in a bucket ``folder`` is the working copy, which is made anew.
    """
    where = place_of(settings.storage, folder)
    with SweepLock(where, job=submission_id()) as lock:
        if isinstance(where, Bucket):
            take_down(where)
        refuse_damaged(settings, folder)
        room = prepare(settings)
        write_text(folder / SETTINGS, dump_settings(settings))
        review.say(f"taking up {review.shown(where)}")
        return _run(settings, room, folder, lock)


def warm_up(data: DrawnData | PreparedData, backbone: BackboneSettings, device: str, storage: Place) -> None:
    """Draw or check the data and build the machine's caches, so that trials need not wait for each other.

    Raises InputError where the data or a bucket cannot be used from this machine.
    """
    if isinstance(storage, Bucket):
        storage.check()
    _ = open_bench(data, backbone, select_device(device)).feature_inputs


def prepare(settings: SweepSettings) -> Room:
    """Join the cluster or start one, see what it holds, and let its machines prepare the data; raises InputError."""
    review.say("starting Ray")
    cluster.connect()
    cluster.wait_for_room(settings.resources)
    room = cluster.make_room(settings.resources, cluster.nodes())
    review.say(f"{room.concurrent} trials at a time on {room.device}, {room.cpus} threads each; preparing the data")
    cluster.run_on_every_node(room, warm_up, settings.data, settings.backbone, room.device, settings.storage)
    return room


def _run(settings: SweepSettings, room: Room, folder: Path, lock: SweepLock) -> Outcome:
    outcome = _run_trials(settings, room, folder, lock)
    winner, best, where = outcome.records.winner, None, place_of(settings.storage, folder)
    if winner is not None and outcome.reason != INTERRUPTED:
        assert winner.checkpoint is not None, "a winner's weights are saved"
        room = replace(room, avoided=outcome.avoided)
        review.say("collecting the winner's results")
        try:
            with terminable():
                saved = where / winner.checkpoint
                cluster.run_where_trials_run(room, collect, where / BEST, winner.experiment, saved, room.device)
                mixed = mixtures(outcome.records, where, room)
                write_leaderboard(outcome.records, folder, mixed)
                if isinstance(where, Bucket):
                    patiently(partial((where / BEST).fetch, folder / BEST), path=where)
                best = mixed[0] if mixed else None
        except KeyboardInterrupt:
            outcome = Outcome(folder, outcome.records, INTERRUPTED)
    if len(settings.search.objectives) > 1:
        write_text(folder / FRONT, front_csv(pareto_front(outcome.records, settings.search.objectives)))
    if isinstance(where, Bucket):
        for file in (folder / FILE, folder / FRONT):
            if file.exists():
                patiently(partial((where / file.name).send, file), path=where)
    review.show_outcome(outcome.records, folder=where, settings=settings, reason=outcome.reason, mixture=best)
    return outcome


def _run_trials(settings: SweepSettings, room: Room, folder: Path, lock: SweepLock) -> Outcome:
    with (
        caught_signals() as caught,
        session(
            settings,
            folder,
            room,
            stop_wanted=lambda: caught.is_set() or lock.lost.is_set(),
            machines=RayMachines(room),
        ) as ready,
    ):
        if lock.former is not None and lock.former.job:
            _tell_what_ended(lock.former.job, ready.guard, room)
        try:
            with ready.display.shown():
                _tune(ready, room)
            reason = ready.searcher.ended_by or ""
        except Interrupted:
            reason = INTERRUPTED
        if lock.lost.is_set():
            raise InputError(
                f"{place_of(settings.storage, folder)}: another driver has taken this sweep over; this one has ended"
            )
        ready.recorder.close(reason)
        return Outcome(folder, ready.records, reason, ready.guard.clear())


def _tell_what_ended(job: str, guard: Guard, room: Room) -> None:
    """Say what ended the driver before with its job; a node that was low on memory gets fewer trials at first."""
    text = why_ended(job)
    if is_low_memory(text):
        # What other workers wanted that were killed at the same time is no matter of the supervisor's.
        found = replace(read_low_memory(text), wanted_gib=None)
        guard.node_was_low(found, at_a_time=room.concurrent)
        text = str(found)
    if text:
        print(f"the driver before this one was ended with its job {job}: {text.splitlines()[0]}", flush=True)


def _tune(ready: Session, room: Room) -> None:
    """Hand all to Tune and come back when the last trial is over.

    ``tune.run`` rather than a ``Tuner``, which pickles the searcher. The number of samples is open: the searcher says
    when the sweep is at its end, hands out failed trials again, and holds back what the cluster has no place for.
    Trials of one worker share warm processes; one of several is a run of Ray Train.
    """
    store = opened(place_of(ready.settings.storage, ready.folder))
    alone = room.workers == 1
    tune.run(
        HandTrial if alone else train_trial,
        name=TRIALS,
        storage_path=store.path,
        storage_filesystem=store.filesystem,
        num_samples=-1,
        search_alg=ready.searcher,
        scheduler=ready.scheduler,
        callbacks=[ready.recorder],
        max_concurrent_trials=room.most or MOST,
        resources_per_trial=tune.PlacementGroupFactory(cluster.trial_bundles(room)),
        reuse_actors=alone,
        trial_dirname_creator=folder_of,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=alone),
        raise_on_failed_trial=False,
        verbose=0,
    )
