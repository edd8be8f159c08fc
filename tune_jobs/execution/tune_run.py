"""The call of Tune that runs the trials of a sweep."""

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tune_jobs.execution.callback import TRIALS
from tune_jobs.execution.cluster import Room, bundles
from tune_jobs.execution.trainable import HandTrial, folder_of
from tune_jobs.storage.location import Place, opened

MOST = 10_000
"""Trials at a time that Tune itself allows; how many there really are is the searcher's to say."""


def run_trials(where: Place, room: Room, *, searcher: Searcher, scheduler: TrialScheduler, callback: Callback) -> None:
    """Hand all to Tune and come back when the last trial of the sweep at ``where`` is over.

    ``tune.run`` rather than a ``Tuner``, which pickles the searcher. The number of samples is open: the searcher says
    when the sweep is at its end, hands out failed trials again, and holds back what the cluster has no place for.
    """
    store = opened(where)
    tune.run(
        HandTrial,
        name=TRIALS,
        storage_path=store.path,
        storage_filesystem=store.filesystem,
        num_samples=-1,
        search_alg=searcher,
        scheduler=scheduler,
        callbacks=[callback],
        max_concurrent_trials=room.most or MOST,
        resources_per_trial=tune.PlacementGroupFactory(bundles(cpus=room.cpus, gpus=room.gpus, workers=room.workers)),
        reuse_actors=True,
        trial_dirname_creator=folder_of,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
        raise_on_failed_trial=False,
        verbose=0,
    )
