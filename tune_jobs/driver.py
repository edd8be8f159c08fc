"""From settings to a finished sweep: the one process that asks, records and decides."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ray import tune

from handclip_core.bench import open_bench
from handclip_core.data.sources import DrawnData, PreparedData
from handclip_core.devices import select_device
from handclip_core.experiment import Experiment
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs import write_text
from handclip_core.strategies import Strategy
from search_spaces.spaces import default_of, params_of
from tune_jobs import cluster, review
from tune_jobs.brackets import RungTable
from tune_jobs.cluster import Room
from tune_jobs.collect import collect
from tune_jobs.event_logs import EventLogs
from tune_jobs.folders import create_folder, refuse_taken_name, resolved
from tune_jobs.interruption import Interrupted, caught_signals
from tune_jobs.live import display_for
from tune_jobs.recorder import TRIALS, Recorder
from tune_jobs.records import Records
from tune_jobs.scheduler import RungScheduler
from tune_jobs.searcher import StudySearcher
from tune_jobs.settings import StoppingKind, SweepSettings, dump_settings
from tune_jobs.study import SweepStudy
from tune_jobs.trial import HandTrial, folder_of, trial_config

SETTINGS, STUDY, EVENTS, BEST = "sweep.yaml", "study.db", "tensorboard", "best"


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended; ``folder`` holds all that it left."""

    folder: Path
    records: Records
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 with a result, 130 where it was interrupted, 1 where every trial failed."""
        if self.interrupted:
            return 130
        return 1 if self.records.winner is None else 0


def sweep(settings: SweepSettings, *, number_taken_names: bool = False) -> Outcome:
    """Run the sweep to its end; raises InputError, before anything is written, where it cannot begin.

    A folder that exists already is refused, or with ``number_taken_names`` the name gets the next free number.
    """
    settings = resolved(settings, in_ray_job=cluster.in_ray_job())
    refuse_taken_name(settings, number_taken_names=number_taken_names)
    review.say("starting Ray")
    cluster.connect()
    room = cluster.make_room(settings.resources, cluster.nodes())
    review.say(f"{room.concurrent} trials at a time on {room.device}, {room.cpus} threads each; preparing the data")
    cluster.run_where_trials_run(room, warm_up, settings.data, settings.backbone, room.device)
    folder = create_folder(settings, number_taken_names=number_taken_names)
    write_text(folder / SETTINGS, dump_settings(settings.model_copy(update={"name": folder.name})))
    review.say(f"sweeping into {review.shown(folder)}")
    outcome = _run_trials(settings, room, folder)
    winner = outcome.records.winner
    if winner is not None:
        review.say("collecting the winner's results")
        cluster.run_where_trials_run(room, collect, folder / BEST, winner.experiment, winner.checkpoint, room.device)
    review.show_outcome(outcome.records, folder=folder, budget=settings.budget, interrupted=outcome.interrupted)
    return outcome


def warm_up(data: DrawnData | PreparedData, backbone: BackboneSettings, device: str) -> None:
    """Draw or check the data and build the machine's caches, so that trials need not wait for each other."""
    _ = open_bench(data, backbone, select_device(device)).feature_inputs


def _run_trials(settings: SweepSettings, room: Room, folder: Path) -> Outcome:
    records = Records()
    study = SweepStudy(
        f"sqlite:///{folder / STUDY}",
        name=folder.name,
        strategies=settings.strategies,
        seed=settings.seed,
        startup=settings.startup_trials,
    )
    searcher = StudySearcher(
        study,
        records,
        experiment=partial(_experiment, settings),
        config=partial(
            trial_config, device=room.device, threads=room.cpus, checkpoint_every_s=settings.checkpoint_every_s
        ),
    )
    scheduler = RungScheduler(rung_table(settings))
    display = display_for(records, num_trials=settings.trials, budget=settings.budget)
    with caught_signals() as stop_wanted, closing(EventLogs(folder / EVENTS, searched_names(settings))) as logs:
        recorder = Recorder(
            folder,
            records=records,
            study=study,
            scheduler=scheduler,
            logs=logs,
            display=display,
            keep=settings.keep_checkpoints,
            stop_wanted=stop_wanted,
        )
        try:
            with display.shown():
                _tune(settings, room, folder, searcher=searcher, scheduler=scheduler, recorder=recorder)
            interrupted = False
        except Interrupted:
            interrupted = True
        recorder.write()
    return Outcome(folder=folder, records=records, interrupted=interrupted)


def _tune(
    settings: SweepSettings,
    room: Room,
    folder: Path,
    *,
    searcher: StudySearcher,
    scheduler: RungScheduler,
    recorder: Recorder,
) -> None:
    """Hand all to Tune and come back when the last trial is over.

    ``tune.run`` rather than a ``Tuner``, which pickles the searcher; here the study's database is its state.
    """
    tune.run(
        HandTrial,
        name=TRIALS,
        storage_path=str(folder),
        num_samples=settings.trials,
        search_alg=searcher,
        scheduler=scheduler,
        callbacks=[recorder],
        max_concurrent_trials=room.concurrent,
        resources_per_trial=tune.PlacementGroupFactory([room.bundle]),
        reuse_actors=True,
        trial_dirname_creator=folder_of,
        checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=True),
        raise_on_failed_trial=False,
        verbose=0,
    )


def rung_table(settings: SweepSettings) -> RungTable:
    """The empty rungs of a sweep; without early stopping there are none."""
    stopping = settings.early_stopping
    grace = settings.budget if stopping.kind is StoppingKind.NONE else stopping.grace
    return RungTable(grace=grace, reduction=stopping.reduction, budget=settings.budget)


def _experiment(settings: SweepSettings, strategy: Strategy) -> Experiment:
    return Experiment.model_validate(
        {
            "strategy": strategy,
            "data": settings.data,
            "backbone": settings.backbone,
            "seed": settings.seed,
            "budget": settings.budget,
        }
    )


def searched_names(settings: SweepSettings) -> tuple[str, ...]:
    """The hyperparameters of all strategies together, by the field's path in an experiment."""
    params = [name for strategy in settings.strategies for name in params_of(default_of(strategy))]
    return tuple(dict.fromkeys(f"strategy/{name.partition('/')[2]}" for name in params))
