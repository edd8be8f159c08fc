"""Soups and WiSE-FT of a sweep's best trials: rows of the leaderboard that cost no training."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch

from handclip_core.runs.experiment import Experiment
from handclip_core.runs.run_folder import BEST
from handclip_core.runs.soups import Ingredient, SoupRow, souped_rows
from tune_jobs.execution.cluster import Room, run_where_trials_run
from tune_jobs.state.events import Mixture
from tune_jobs.state.trials import Records
from tune_jobs.storage.location import Place, fetched


@dataclass(frozen=True)
class Kept:
    """A trial whose weights have been kept, and where its state is."""

    name: str
    experiment: Experiment
    state: Place


def mixtures(records: Records, where: Place, room: Room) -> tuple[Mixture, ...]:
    """What the trials whose weights have been kept make together, best first; mixtures are called by trial numbers.

    ``where`` is the sweep's folder, or its place in a bucket.
    """
    kept = [record for record in records.ranked() if record.has_score and record.best_is_saved and record.checkpoint]
    given = [Kept(str(record.number), record.experiment, where / str(record.checkpoint)) for record in kept]
    rows = run_where_trials_run(room, _rows, given, room.device)
    return tuple(Mixture(name=row.strategy, status=row.status, metrics=row.metrics) for row in rows)


def _rows(kept: list[Kept], device: str) -> list[SoupRow]:
    with ExitStack() as open_states:
        folders = [open_states.enter_context(fetched(one.state)) for one in kept]
        given = [Ingredient(one.name, one.experiment, folder / BEST) for one, folder in zip(kept, folders, strict=True)]
        return souped_rows(given, device=torch.device(device))
