"""Soups and WiSE-FT of a sweep's best trials: rows of the leaderboard that cost no training."""

from pathlib import Path

import torch

from handclip_core.runs import BEST
from handclip_core.souping import Ingredient, SoupRow, souped_rows
from tune_jobs.cluster import Room, run_where_trials_run
from tune_jobs.records import Records


def mixtures(records: Records, folder: Path, room: Room) -> list[SoupRow]:
    """What the trials whose weights have been kept make together, best first; mixtures are called by trial numbers."""
    kept = [record for record in records.ranked() if record.judged and record.best_is_saved and record.checkpoint]
    ingredients = [
        Ingredient(str(record.number), record.experiment, folder / str(record.checkpoint) / BEST) for record in kept
    ]
    return run_where_trials_run(room, _rows, ingredients, room.device)


def _rows(ingredients: list[Ingredient], device: str) -> list[SoupRow]:
    return souped_rows(ingredients, device=torch.device(device))
