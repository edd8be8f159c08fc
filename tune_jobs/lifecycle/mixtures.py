"""Soups and WiSE-FT of a sweep's best trials: rows of the leaderboard that cost no training."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch

from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST
from handclip_core.runs.soups import Ingredient, SoupRow, soup_rows
from tune_jobs.execution.cluster import TrialResources, run_where_trials_run
from tune_jobs.state.events import Mixture
from tune_jobs.state.trials import Trials
from tune_jobs.storage.location import StorageLocation, local_copy


@dataclass(frozen=True)
class SavedTrial:
    """A trial whose weights have been kept, and where its state is."""

    name: str
    experiment: Experiment
    state: StorageLocation


def mixtures(all_trials: Trials, where: StorageLocation, trial_resources: TrialResources) -> tuple[Mixture, ...]:
    """What the trials whose weights have been kept make together, best first; mixtures are called by trial numbers.

    ``where`` is the sweep's folder, or its place in a bucket.
    """
    kept = [view for view in all_trials.ranked() if view.has_score and view.best_is_saved and view.checkpoint]
    given = [SavedTrial(str(view.number), view.experiment, where / str(view.checkpoint)) for view in kept]
    rows = run_where_trials_run(trial_resources, _rows, given, trial_resources.device)
    return tuple(Mixture(name=row.strategy, status=row.status, metrics=row.metrics) for row in rows)


def _rows(kept: list[SavedTrial], device: str) -> list[SoupRow]:
    with ExitStack() as open_states:
        folders = [open_states.enter_context(local_copy(one.state)) for one in kept]
        given = [Ingredient(one.name, one.experiment, folder / BEST) for one, folder in zip(kept, folders, strict=True)]
        return soup_rows(given, device=torch.device(device))
