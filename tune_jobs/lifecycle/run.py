"""From settings to a finished sweep: the one process that proposes, records and decides."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.devices import select_device
from handclip_core.errors import InputError
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_bench
from handclip_core.runs.run_folder import write_text
from tune_jobs.config.settings import SETTINGS, StoppingKind, SweepSettings, dump_settings, load_settings
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import Room
from tune_jobs.execution.monitor import Guard
from tune_jobs.execution.nodes import RayMachines
from tune_jobs.execution.ray_job import in_ray_job, submission_id, why_ended
from tune_jobs.execution.signals import Interrupted, caught_signals, terminable
from tune_jobs.execution.tune_run import run_trials
from tune_jobs.lifecycle.build import Session, read_events, session
from tune_jobs.lifecycle.export_best import BEST, export_best
from tune_jobs.lifecycle.exports import Exports, write_front
from tune_jobs.lifecycle.folders import create_folder, refuse_taken_name, refuse_unknown_sweep, resolved
from tune_jobs.lifecycle.fork import fork
from tune_jobs.lifecycle.mixtures import mixtures
from tune_jobs.reporting import summary
from tune_jobs.reporting.leaderboard import FILE, write_leaderboard
from tune_jobs.reporting.study import refuse_taken
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory
from tune_jobs.search.proposer import Proposer
from tune_jobs.state.events import Mixed
from tune_jobs.state.local_copy import take_down, to_read
from tune_jobs.state.objectives import FRONT
from tune_jobs.state.trials import Records, folded
from tune_jobs.storage.lease import SweepLock
from tune_jobs.storage.location import Bucket, Place, folder_of, place_of
from tune_jobs.storage.retry import patiently
from tune_jobs.storage.sync import Mirror

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended; ``folder`` holds all that it left."""

    folder: Path
    records: Records
    reason: str
    """Why it ended before its last trial: ``interrupted``, or the limit; empty if it did not."""

    @property
    def exit_code(self) -> int:
        """0 with a result, 130 if it was interrupted, 1 if no trial has a score."""
        if self.reason == INTERRUPTED:
            return 130
        return 1 if self.records.winner is None else 0


def sweep(settings: SweepSettings, *, number_taken_names: bool = False, forked: Path | None = None) -> Outcome:
    """Run a new sweep to its end; raises InputError, before anything is written, if it cannot begin.

    A folder that exists already is refused, or with ``number_taken_names`` the name gets the next free number. Trials
    of the sweep in the folder ``forked`` are taken over if these settings leave them as they are.
    """
    settings = resolved(settings, in_ray_job=in_ray_job())
    refuse_taken_name(settings, number_taken_names=number_taken_names)
    if settings.warm_start is not None:
        refuse_unknown_sweep(settings.warm_start, option="warm_start")
        read_events(to_read(settings.warm_start))
    if settings.search.storage is not None and not number_taken_names:
        refuse_taken(settings.search.storage, settings.name)
    taken = None if forked is None else fork(forked, load_settings(forked / SETTINGS), settings)
    room = prepare(settings)
    fill = None if taken is None else taken.fill
    folder = create_folder(settings, number_taken_names=number_taken_names, fill=fill)
    where = place_of(settings.storage, folder)
    summary.say(f"sweeping into {summary.shown(where)}")
    stopping = settings.early_stopping
    if stopping.kind is not StoppingKind.NONE and stopping.grace >= settings.budget:
        print(f"no trial is stopped early: early_stopping.grace is {stopping.grace}, the budget {settings.budget}")
    for line in () if taken is None else taken.lines():
        print(line, flush=True)
    with SweepLock(where, job=submission_id()) as lock:
        return _run(settings.model_copy(update={"name": folder.name}), room, folder, lock)


def resume(settings: SweepSettings, folder: Path) -> Outcome:
    """Take the sweep in ``folder`` up where it ended or died; raises InputError if its state cannot be read.

    Of a sweep in a bucket ``folder`` is the local copy, which is made anew.
    """
    where = place_of(settings.storage, folder)
    with SweepLock(where, job=submission_id()) as lock:
        if isinstance(where, Bucket):
            take_down(where)
        read_events(folder)  # what cannot be taken up needs no cluster
        room = prepare(settings)
        write_text(folder / SETTINGS, dump_settings(settings))
        summary.say(f"taking up {summary.shown(where)}")
        return _run(settings, room, folder, lock)


def export(settings: SweepSettings, where: Place) -> None:
    """Write leaderboard, study and TensorBoard logs of the sweep at ``where`` anew from its journal.

    Raises InputError if a driver is at work on it, if its journal is damaged, or the study's database is away.
    """
    with SweepLock(where):
        folder = take_down(where) if isinstance(where, Bucket) else folder_of(where)
        events = read_events(folder)
        records = folded(events)
        with closing(Exports(folder, settings, records)) as exports:
            exports.open(events, all_logs=True)
        write_leaderboard(records, folder)
        write_front(records, settings, folder)
        if isinstance(where, Bucket):
            patiently(Mirror(folder, where).send, path=where)
    what = f"leaderboard, study and TensorBoard logs of {len(records.trials)} trials"
    summary.say(f"{what} are written anew from {len(events)} lines of the journal")


def warm_up(data: DrawnData | PreparedData, backbone: BackboneSettings, device: str, storage: Place) -> None:
    """Draw or check the data and build the machine's caches, so that trials need not wait for each other.

    Raises InputError if the data or a bucket cannot be used from this machine.
    """
    if isinstance(storage, Bucket):
        storage.check()
    _ = open_bench(data, backbone, select_device(device)).feature_inputs


def prepare(settings: SweepSettings) -> Room:
    """Join the cluster or start one, see what it holds, and let its machines prepare the data; raises InputError."""
    summary.say("starting Ray")
    cluster.connect()
    cluster.wait_for_room(settings.resources)
    room = cluster.make_room(settings.resources, cluster.nodes())
    summary.say(f"{room.concurrent} trials at a time on {room.device}, {room.cpus} threads each; preparing the data")
    cluster.run_on_every_node(room, warm_up, settings.data, settings.backbone, room.device, settings.storage)
    return room


def _run(settings: SweepSettings, room: Room, folder: Path, lock: SweepLock) -> Outcome:
    outcome = run_to_the_end(settings, room, folder, lock)
    where = place_of(settings.storage, folder)
    write_front(outcome.records, settings, folder)
    _send_tables(where, folder)
    summary.show_outcome(outcome.records, folder=where, settings=settings, reason=outcome.reason)
    return outcome


def run_to_the_end(
    settings: SweepSettings, room: Room, folder: Path, lock: SweepLock, proposer: Proposer | None = None
) -> Outcome:
    """Run what is left of the trials that ``proposer`` proposes, or the search of ``settings``, and export the best.

    Raises InputError if another driver takes the sweep over.
    """
    with ExitStack() as stack:
        with caught_signals() as caught:  # Ray takes the signals when it starts
            ready = stack.enter_context(
                session(
                    settings,
                    folder,
                    room,
                    stop_wanted=lambda: caught.is_set() or lock.lost.is_set(),
                    proposer=proposer,
                    machines=RayMachines(room),
                )
            )
            reason = _run_trials(ready, room, lock)
        if lock.lost.is_set():
            where = place_of(settings.storage, folder)
            raise InputError(f"{where}: another driver has taken this sweep over; this one has ended")
        if proposer is None and reason != INTERRUPTED:
            reason = _finish(ready, room) or reason
        ready.recorder.close(reason)
        return Outcome(folder, ready.records, reason)


def _run_trials(ready: Session, room: Room, lock: SweepLock) -> str:
    """Run the trials; returns why that ended before the last one, if it did."""
    if lock.former is not None and lock.former.job:
        _tell_what_ended(lock.former.job, ready.guard, room)
    where = place_of(ready.settings.storage, ready.folder)
    try:
        with ready.display.shown():
            run_trials(where, room, searcher=ready.searcher, scheduler=ready.scheduler, callback=ready.recorder)
    except Interrupted:
        return INTERRUPTED
    return ready.searcher.ended_by or ""


def _finish(ready: Session, room: Room) -> str:
    """Export the best trial and mix the weights of good ones; returns why that was not done, if it was not."""
    winner, where = ready.records.winner, place_of(ready.settings.storage, ready.folder)
    if winner is None:
        return ""
    assert winner.checkpoint is not None, "a winner's weights are saved"
    room = replace(room, avoided=ready.guard.clear())
    ready.guard.release()
    summary.say("collecting the winner's results")
    try:
        with terminable():
            saved = where / winner.checkpoint
            cluster.run_where_trials_run(room, export_best, where / BEST, winner.experiment, saved, room.device)
            ready.state.happened(Mixed(at=ready.state.clock(), mixtures=mixtures(ready.records, where, room)))
            if isinstance(where, Bucket):
                patiently(partial((where / BEST).fetch, ready.folder / BEST), path=where)
    except KeyboardInterrupt:
        return INTERRUPTED
    return ""


def _send_tables(where: Place, folder: Path) -> None:
    """Copy the tables of a sweep in a bucket there."""
    if isinstance(where, Bucket):
        for file in (folder / FILE, folder / FRONT):
            if file.exists():
                patiently(partial((where / file.name).send, file), path=where)


def _tell_what_ended(job: str, guard: Guard, room: Room) -> None:
    """Say what ended the driver before with its job; a node that was low on memory gets fewer trials at first."""
    text = why_ended(job)
    if is_low_memory(text):
        # What other workers held that were killed at the same time says nothing about the supervisor.
        found = replace(read_low_memory(text), wanted_gib=None)
        guard.node_was_low(found, at_a_time=room.concurrent)
        text = str(found)
    if text:
        print(f"the driver before this one was ended with its job {job}: {text.splitlines()[0]}", flush=True)
