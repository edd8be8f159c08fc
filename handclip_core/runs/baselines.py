"""The baselines on the data of an experiment: described, fitted to its training images if need be, and scored."""

import numpy as np
from numpy.typing import NDArray

from handclip_core.console import track
from handclip_core.data.training import LabelBy, Part
from handclip_core.evaluation.baselines import BASELINES, Baseline, Descriptors
from handclip_core.evaluation.units import Evaluation
from handclip_core.runs.context import ExperimentContext
from handclip_core.tasks.base import Split

CHUNK = 256
"""Images described at a time."""


def baseline_descriptors(
    name: str, context: ExperimentContext, rows: NDArray[np.int64], *, part: Part = "train"
) -> Descriptors:
    """What the baseline ``name`` makes of manifest ``rows`` [n]: [n, D]; a trained one is fitted to ``part``.

    Classes of the fit are an identity's aspects. Raises InputError if the training images do not support it.
    """
    baseline = BASELINES[name]
    found = _described(baseline, context, rows, name)
    if not baseline.trained:
        return found
    labelled = context.training_data(part).labelled(LabelBy.PERSON_ASPECT)
    training = _described(baseline, context, labelled.rows, f"{name}, training images")
    _, people = np.unique(context.identities[labelled.rows], return_inverse=True)
    return baseline.mapped(found, training, labelled.pool.labels, people)


def baseline_scores(name: str, context: ExperimentContext, split: Split) -> Evaluation:
    """Scores of the baseline ``name``, one of the task's, on ``split``."""
    evaluator = context.evaluator(split)
    return evaluator.scores_of(baseline_descriptors(name, context, evaluator.rows))


def _described(baseline: Baseline, context: ExperimentContext, rows: NDArray[np.int64], what: str) -> Descriptors:
    starts = range(0, len(rows), CHUNK)
    parts = (rows[start : start + CHUNK] for start in starts)
    return np.concatenate(
        [baseline.describe(context.pixels.batch(each)) for each in track(parts, description=what, total=len(starts))]
    )
