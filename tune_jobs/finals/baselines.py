"""The baselines of pixels and gradients on validation identities: scored once, kept in the folder of the finals."""

from collections.abc import Callable
from pathlib import Path

from handclip_core.runs.baselines import BaselineScores
from handclip_core.tasks import AnyTask

FOLDER = "baselines"


def kept_baselines(
    finals: Path, manifest_hash: str, task: AnyTask, score: Callable[[], BaselineScores]
) -> BaselineScores:
    """What the folder ``finals`` keeps for the data of ``manifest_hash``, or else what ``score`` gives, then kept.

    Nothing of a task without baselines.
    """
    if not task.baselines:
        return BaselineScores({})
    folder = finals / FOLDER
    known = BaselineScores.load(folder, manifest_hash, task)
    if known is None:
        known = score()
        known.save(folder, manifest_hash, task)
    return known
