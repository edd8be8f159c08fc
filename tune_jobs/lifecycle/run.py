"""From settings to a finished sweep: the one process that proposes, records and decides."""

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from handclip_core.errors import InputError
from handclip_core.runs.baselines import read_gaps
from handclip_core.runs.run_folder import write_text
from handclip_core.signals import Ended, say_at_the_end
from handclip_core.strategies import ZeroShot
from tune_jobs.config.settings import SETTINGS, StoppingKind, SweepSettings, dump_settings, load_settings
from tune_jobs.execution import cluster
from tune_jobs.execution.cluster import TrialResources
from tune_jobs.execution.monitor import TrialMonitor
from tune_jobs.execution.nodes import RayNodes
from tune_jobs.execution.ray_job import why_ended
from tune_jobs.execution.signals import Interrupted, stop_on_signals
from tune_jobs.execution.tune_run import run_trials
from tune_jobs.lifecycle.best_logs import write_best_logs
from tune_jobs.lifecycle.build import SweepRun, build, read_events
from tune_jobs.lifecycle.export_best import export_best_left, mixtures
from tune_jobs.lifecycle.exports import Exports, write_front
from tune_jobs.lifecycle.fitting import fitted, score_baselines_beside, warm_up
from tune_jobs.lifecycle.folders import BEST, create_folder, refuse_taken_name, refuse_unknown_sweep, resolved
from tune_jobs.lifecycle.fork import fork
from tune_jobs.lifecycle.review import write_report
from tune_jobs.reporting import summary
from tune_jobs.reporting.leaderboard import FILE, write_leaderboard
from tune_jobs.reporting.progress import NO_ESTIMATE, still
from tune_jobs.reporting.record import SweepRecord
from tune_jobs.scheduling.low_memory import is_low_memory, read_low_memory
from tune_jobs.search.proposer import Proposer
from tune_jobs.state.events import Mixed
from tune_jobs.state.local_copy import download, readable_folder
from tune_jobs.state.objectives import FRONT
from tune_jobs.state.submission import in_ray_job, submission_id
from tune_jobs.state.trials import Trials, folded
from tune_jobs.storage.lease import SweepLease
from tune_jobs.storage.location import BucketLocation, StorageLocation, location_of
from tune_jobs.storage.retry import with_retry
from tune_jobs.storage.study_database import refuse_taken
from tune_jobs.storage.sync import FolderSync

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended; ``folder`` holds all that it left."""

    folder: Path
    all_trials: Trials
    reason: str
    """Why it ended before its last trial: ``interrupted``, or the limit; empty if it did not."""
    exported: bool = True
    """Whether the weights of the best trial, or of the next best, could be read."""

    @property
    def exit_code(self) -> int:
        """0 with a result, 130 if it was interrupted, 1 if no trial has a score, or weights that can be read."""
        if self.reason == INTERRUPTED:
            return 130
        return 1 if self.all_trials.winner is None or not self.exported else 0


def sweep(settings: SweepSettings, *, number_taken_names: bool = False, forked: Path | None = None) -> Outcome:
    """Run a new sweep to its end; raises InputError, before anything is written, if it cannot begin.

    A folder that exists already is refused, or with ``number_taken_names`` the name gets the next free number. Trials
    of the sweep in the folder ``forked`` are taken over if these settings leave them as they are.
    """
    settings = fitted(resolved(settings, in_ray_job=in_ray_job()))
    refuse_taken_name(settings, number_taken_names=number_taken_names)
    if settings.warm_start is not None:
        refuse_unknown_sweep(settings.warm_start, option="warm_start")
        # Damage is told before anything is written.
        read_events(readable_folder(settings.warm_start))
    if settings.search.storage is not None:
        refuse_taken(settings.search.storage, None if number_taken_names else settings.name)
    taken = None if forked is None else fork(forked, load_settings(forked / SETTINGS), settings)
    trial_resources = prepare(settings)
    fill = None if taken is None else taken.fill
    folder = create_folder(settings, number_taken_names=number_taken_names, fill=fill)
    where = location_of(settings.storage, folder)
    summary.log(f"sweeping into {summary.shown(where)}")
    stopping = settings.early_stopping
    if stopping.kind is not StoppingKind.NONE and stopping.grace >= settings.budget:
        print(f"no trial is stopped early: early_stopping.grace is {stopping.grace}, the budget {settings.budget}")
    if taken is not None:
        print("\n".join(taken.lines()), flush=True)
    with SweepLease(where, job=submission_id()) as lease:
        return _run(settings.model_copy(update={"name": folder.name}), trial_resources, folder, lease)


def resume(settings: SweepSettings, folder: Path) -> Outcome:
    """Take the sweep in ``folder`` up where it ended or died; raises InputError if its state cannot be read.

    Of a sweep in a bucket ``folder`` is the local copy, which is made anew.
    """
    where = location_of(settings.storage, folder)
    settings = fitted(settings)
    with SweepLease(where, job=submission_id()) as lease:
        read_events(download(where))  # what cannot be taken up needs no cluster
        trial_resources = prepare(settings)
        # Only now: a sweep that cannot be taken up keeps the settings that it had.
        write_text(folder / SETTINGS, dump_settings(settings))
        summary.log(f"taking up {summary.shown(where)}")
        return _run(settings, trial_resources, folder, lease)


def export(settings: SweepSettings, where: StorageLocation) -> None:
    """Write leaderboard, report, study and TensorBoard logs of the sweep at ``where`` anew from its journal.

    Raises InputError if a driver is at work on it, if its journal is damaged, or the study's database is away.
    """
    with SweepLease(where):
        folder = download(where)
        events = read_events(folder)
        all_trials = folded(events)
        with closing(Exports(folder, settings, all_trials)) as exports:
            exports.open(events, all_logs=True)
            exports.show_best(write_best_logs(folder, settings))
        write_leaderboard(all_trials, folder)
        write_front(all_trials, settings, folder)
        write_report(SweepRecord(where, folder, settings, events))
        if isinstance(where, BucketLocation):
            with_retry(FolderSync(folder, where).send, path=where)
    what = f"leaderboard, report, study and TensorBoard logs of {len(all_trials.trials)} trials"
    summary.log(f"{what} are written anew from {len(events)} lines of the journal")


def prepare(settings: SweepSettings) -> TrialResources:
    """Join the cluster or start one, see what it holds, and let its nodes prepare the data; raises InputError."""
    address = os.environ.get("RAY_ADDRESS")
    summary.log(f"joining the cluster at {address}" if address else "starting Ray")
    cluster.connect()
    with still(f"waiting for a node; {NO_ESTIMATE}"):
        cluster.wait_for_node(settings.resources)
    trial_resources = cluster.fit_trials(settings.resources, cluster.nodes())
    where = f"{trial_resources.concurrent} trials at a time on {trial_resources.device}"
    summary.log(f"{where}, {trial_resources.cpus} threads each; preparing the data")
    with still(f"preparing the data, before the first trial; {NO_ESTIMATE}"):
        cluster.run_on_every_node(trial_resources, warm_up, settings.model_dump_json())
    return trial_resources


def _run(settings: SweepSettings, trial_resources: TrialResources, folder: Path, lease: SweepLease) -> Outcome:
    say_at_the_end(f"interrupted; resume with {summary.resume_command(location_of(settings.storage, folder))}")
    if settings.task.baselines:
        example = settings.experiment(ZeroShot(), settings.backbones[0])
        cluster.call_beside_trials(trial_resources, score_baselines_beside, example.model_dump_json())
    outcome = run_to_the_end(settings, trial_resources, folder, lease)
    where = location_of(settings.storage, folder)
    say_at_the_end("")  # what follows says it all
    write_front(outcome.all_trials, settings, folder)
    if isinstance(where, BucketLocation):
        # The sync has ended with the sweep itself.
        for file in (folder / FILE, folder / FRONT):
            if file.exists():
                with_retry(partial((where / file.name).send, file), path=where)
    summary.show_outcome(
        outcome.all_trials,
        folder=where,
        settings=settings,
        reason=outcome.reason,
        exported=outcome.exported,
        baselines=read_gaps(folder / BEST) if outcome.exported and outcome.reason != INTERRUPTED else (),
    )
    write_report(SweepRecord(where, folder, settings, read_events(folder)))
    return outcome


def run_to_the_end(
    settings: SweepSettings,
    trial_resources: TrialResources,
    folder: Path,
    lease: SweepLease,
    proposer: Proposer | None = None,
) -> Outcome:
    """Run what is left of the trials that ``proposer`` proposes, or the search of ``settings``, and export the best.

    Raises InputError if another driver takes the sweep over.
    """
    where, nodes, reason, exported = location_of(settings.storage, folder), RayNodes(trial_resources), "", True
    with ExitStack() as stack:
        with stop_on_signals() as caught:  # Ray takes the signals when it starts

            def stop_requested() -> bool:
                return caught.is_set() or lease.lost.is_set()

            built = build(
                settings, folder, trial_resources, stop_requested=stop_requested, nodes=nodes, proposer=proposer
            )
            ready = stack.enter_context(built)
            if lease.former is not None and lease.former.job:
                _tell_what_ended(lease.former.job, ready.monitor, trial_resources)
            try:
                with ready.display.shown():
                    run_trials(
                        where,
                        trial_resources,
                        searcher=ready.searcher,
                        scheduler=ready.scheduler,
                        callback=ready.callback,
                    )
                reason = ready.searcher.ended_by or ""
            except Interrupted:
                reason = INTERRUPTED
        if lease.lost.is_set():
            raise InputError(f"{where}: another driver has taken this sweep over; this one has ended")
        # Of a fixed list there is no best one to export: whoever made it compares the runs.
        if proposer is None and reason != INTERRUPTED:
            try:
                finished = _finish(ready, where, trial_resources, settings)
                reason = reason if finished else INTERRUPTED
            except InputError as error:
                exported = False
                print(f"error: {error}", file=sys.stderr, flush=True)
        # Last of all, so that a driver that is killed amid the export leaves a sweep that is not over.
        ready.callback.close(reason)
        return Outcome(folder, ready.all_trials, reason, exported)


def _finish(ready: SweepRun, where: StorageLocation, trial_resources: TrialResources, settings: SweepSettings) -> bool:
    """Export the best trial, for TensorBoard too, and score mixtures of good weights; whether that came to its end.

    Raises InputError if no weights are left that can be read.
    """
    if ready.all_trials.winner is None:
        return True
    trial_resources = replace(trial_resources, excluded_nodes=ready.monitor.excluded_nodes())
    # Places that are held back because memory was low would keep the export waiting.
    ready.monitor.release()
    summary.log("exporting the winner's results")
    try:
        call, threads = cluster.caller_after_trials(trial_resources, more=settings.mixtures)
        with still("exporting the winner"):
            export_best_left(ready.all_trials, where, call, threads=threads)
        if settings.mixtures:
            mixed = mixtures(ready.all_trials, where, trial_resources)
            ready.state.happened(Mixed(at=ready.state.clock(), mixtures=mixed))
            cluster.end_meanwhile()
        if isinstance(where, BucketLocation):
            with_retry(partial((where / BEST).fetch, ready.folder / BEST), path=where)
        ready.exports.show_best(write_best_logs(ready.folder, settings))
    except (Ended, KeyboardInterrupt):
        return False
    return True


def _tell_what_ended(job: str, monitor: TrialMonitor, trial_resources: TrialResources) -> None:
    """Say what ended the driver before with its job; a node that was low on memory gets fewer trials at first."""
    text = why_ended(job)
    if is_low_memory(text):
        # What other workers held that were killed at the same time says nothing about the supervisor.
        found = replace(read_low_memory(text), wanted_gib=None)
        monitor.node_was_low(found, at_a_time=trial_resources.concurrent)
        text = str(found)
    if text:
        print(f"the driver before this one was ended with its job {job}: {text.splitlines()[0]}", flush=True)
