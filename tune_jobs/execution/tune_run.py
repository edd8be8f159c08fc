"""The call of Tune that runs the trials of a sweep."""

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tune_jobs.execution.cluster import TrialResources, trial_bundles
from tune_jobs.execution.train_fn import train_trial
from tune_jobs.execution.trainable import HandTrial, folder_of
from tune_jobs.state.trials import TRIALS
from tune_jobs.storage.location import StorageLocation, open_location

MOST = 10_000
"""Trials at a time that Tune itself allows; how many there really are is the searcher's to say."""


def run_trials(
    where: StorageLocation,
    trial_resources: TrialResources,
    *,
    searcher: Searcher,
    scheduler: TrialScheduler,
    callback: Callback,
) -> None:
    """Hand all to Tune and come back when the last trial of the sweep at ``where`` is over.

    ``tune.run`` rather than a ``Tuner``, which pickles the searcher. The number of samples is open: the searcher says
    when the sweep is at its end, hands out failed trials again, and holds back what the cluster has no place for.
    Trials of one worker share warm processes; one of several is a run of Ray Train.
    """
    store, alone = open_location(where), trial_resources.workers == 1
    tune.run(
        HandTrial if alone else train_trial,
        name=TRIALS,
        storage_path=store.path,
        storage_filesystem=store.filesystem,
        num_samples=-1,
        search_alg=searcher,
        scheduler=scheduler,
        callbacks=[callback],
        max_concurrent_trials=trial_resources.most or MOST,
        resources_per_trial=tune.PlacementGroupFactory(trial_bundles(trial_resources)),
        reuse_actors=alone,
        trial_dirname_creator=folder_of,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=alone),
        raise_on_failed_trial=False,
        verbose=0,
    )
